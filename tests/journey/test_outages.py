"""Outages of parts of the stack: the broker, the model, the stack itself."""

import os
import shutil
import signal
import subprocess

import pytest

from deploy.commands.demo import SAMPLES
from shared.bundle import WEIGHTS_NAME, find_bundle
from shared.settings import Settings
from tests.journey.stack import DERMQUEUE, RunningStack
from tests.waiting import wait_until

PHOTOGRAPH = next(SAMPLES.glob("*.jpg")).read_bytes()


@pytest.fixture
def start_stack(tmp_path):
    """Start stacks of this test's own; what a test leaves running is stopped."""
    running: list[RunningStack] = []

    def start(**variables: str) -> RunningStack:
        running.append(RunningStack(tmp_path / "data", variables))
        return running[-1]

    yield start
    if running and not running[-1].http.is_closed:
        running[-1].stop()


def test_cases_are_accepted_while_the_broker_is_away_and_all_finish_after_it_is_back(start_stack):
    stack = start_stack()
    stack.finish([stack.submit(PHOTOGRAPH).json()["id"]])
    broker = stack.pid("valkey")
    os.kill(broker, signal.SIGSTOP)  # it takes connections and answers nothing: worse than being gone
    answers = [stack.submit(PHOTOGRAPH) for _ in range(10)]
    os.kill(broker, signal.SIGKILL)
    answers += [stack.submit(PHOTOGRAPH) for _ in range(10)]
    assert {answer.status_code for answer in answers} == {202}
    cases = stack.finish([answer.json()["id"] for answer in answers])
    assert {case["state"] for case in cases} == {"succeeded"}


def test_a_damaged_bundle_stops_the_worker_with_a_sentence_and_the_api_still_accepts_cases(start_stack, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(find_bundle(Settings.model_fields["model"].default), bundle)
    with (bundle / WEIGHTS_NAME).open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        weights.write(b"\x7f")
    stack = start_stack(DERMQUEUE_MODEL=str(bundle))
    wait_until(lambda: "[bundle_damaged]" in stack.output.read_text(), timeout_s=60)
    assert "Traceback" not in (stack.data_dir / "logs" / "worker.log").read_text()
    answer = stack.submit(PHOTOGRAPH)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert stack.http.get("/v1/models/current").json()["code"] == "model_not_loaded"


def test_a_stack_that_is_stopped_and_started_again_has_every_case_and_key(start_stack):
    stack = start_stack()
    connection = stack.data_dir / "connection.json"
    assert connection.stat().st_mode & 0o777 == 0o600
    (case,) = stack.finish([stack.submit(PHOTOGRAPH).json()["id"]])
    heatmap = stack.http.get(case["links"]["heatmap"]).content
    assert stack.stop() == 0
    assert not connection.exists()
    again = start_stack()
    assert again.connection["clinic_key"] == stack.connection["clinic_key"]
    assert again.read(case["id"]) == case
    assert again.http.get(case["links"]["heatmap"]).content == heatmap


def test_two_stacks_cannot_share_a_folder(start_stack):
    stack = start_stack()
    second = subprocess.run(
        [*DERMQUEUE, "up", "--data-dir", str(stack.data_dir)], env=stack.environment, capture_output=True, text=True
    )
    assert second.returncode == 1
    assert "data_dir_in_use" in second.stderr
    assert stack.http.get("/v1/cases").status_code == 200
