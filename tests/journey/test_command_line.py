"""`dermqueue` as a person types it, against a running stack."""

import json
import subprocess

import numpy as np
import pytest

from deploy.commands.demo import SAMPLES
from tests.journey.stack import DERMQUEUE

PHOTOGRAPHS = sorted(SAMPLES.glob("*.jpg"))[:2]


@pytest.fixture
def dermqueue(stack):
    """Run a command on the stack's folder and return what it did."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
        command = (*DERMQUEUE, *arguments, "--data-dir", str(stack.data_dir))
        environment = {**stack.environment, **variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return run


def test_submit_waits_and_prints_one_case_per_line(dermqueue):
    done = dermqueue("submit", *map(str, PHOTOGRAPHS), "--wait", "--json")
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert [case["file"] for case in cases] == [str(file) for file in PHOTOGRAPHS]
    assert {case["state"] for case in cases} == {"succeeded"}


def test_submit_prints_a_table_and_says_that_it_is_not_a_diagnosis(dermqueue):
    done = dermqueue("submit", str(PHOTOGRAPHS[0]), "--wait")
    assert PHOTOGRAPHS[0].name in done.stdout
    assert "succeeded" in done.stdout
    assert "Not a diagnosis" in done.stdout


def test_a_refused_file_is_named_with_the_reason_and_the_others_go_on(dermqueue, tmp_path):
    text = tmp_path / "notes.jpg"
    text.write_text("this is no photograph")
    done = dermqueue("submit", str(text), str(PHOTOGRAPHS[0]), "--wait")
    assert done.returncode == 1
    assert "image_type_unsupported" in done.stdout
    assert "succeeded" in done.stdout


def test_fetch_writes_the_result_and_the_heatmap_that_was_asked_for(dermqueue, tmp_path):
    case = json.loads(dermqueue("submit", str(PHOTOGRAPHS[0]), "--wait", "--json").stdout)
    done = dermqueue("fetch", case["id"], "--out", str(tmp_path), "--class", "nevus", "--style", "raw")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / f"{case['id']}.json").read_text())["result"] == case["result"]
    assert np.load(tmp_path / f"{case['id']}-nevus-raw.npy").ndim == 2


def test_watch_shows_the_newest_cases(dermqueue):
    dermqueue("submit", str(PHOTOGRAPHS[0]), "--reference", "watched-case")
    assert "watched-case" in dermqueue("watch", "--once").stdout


def test_a_new_clinic_with_its_key_sees_its_own_cases_alone_until_the_key_is_revoked(dermqueue, stack):
    assert dermqueue("clinic", "add", "Clinic North").returncode == 0
    key = dermqueue("key", "add", "--clinic", "Clinic North").stdout.strip()
    bearer = {"Authorization": f"Bearer {key}"}
    assert stack.http.get("/v1/cases", headers=bearer).json() == {"cases": []}
    assert dermqueue("key", "revoke", key.split("_")[1]).returncode == 0
    answer = stack.http.get("/v1/cases", headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (401, "key_revoked")


def test_the_database_is_what_this_version_expects(dermqueue):
    done = dermqueue("db", "check")
    assert done.returncode == 0, done.stderr


def test_an_unknown_variable_stops_the_start_with_a_sentence_that_names_it(dermqueue):
    done = dermqueue("worker", DERMQUEUE_BATCHSIZE="8")
    assert done.returncode == 1
    assert "DERMQUEUE_BATCHSIZE" in done.stderr
    assert "DERMQUEUE_BATCH_SIZE" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demonstration_uses_the_stack_that_runs(dermqueue, tmp_path):
    done = dermqueue("demo", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("*.png"))) == 8
