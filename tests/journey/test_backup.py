"""A stack is backed up while cases flow, and the backups are restored into other stacks: real processes and servers."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from deploy.commands.demo import SAMPLES
from tests.journey.stack import DERMQUEUE, RunningStack
from tests.waiting import halt, wait_until

pytestmark = pytest.mark.timeout(600)

PHOTOGRAPHS = [file.read_bytes() for file in sorted(SAMPLES.glob("*.jpg"))]
FLOOD = 30
"""The most submitted while the backup runs, so that one page of the API holds all cases of the test."""


@dataclass
class Saved:
    """What the first stack held and the backups of it. Cases are listed by their ids."""

    flowing: Path
    """A backup that was made while cases were submitted and analysed."""
    halted: Path
    """One that was made while the worker was halted."""
    asleep: Path
    """One that was made when the stack did not run."""
    deleted: str
    finished: list[str]
    """Final before the first backup."""
    waiting: list[str]
    """Queued or running in the second one."""
    keys: dict[str, str]
    cases: dict[str, dict] = field(default_factory=dict)
    pictures: dict[str, list[bytes]] = field(default_factory=dict)


def dermqueue(*arguments: str | Path) -> str:
    """Run a command and return what it printed."""
    command = [*DERMQUEUE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def submit(stack: RunningStack, count: int) -> list[str]:
    return [stack.submit(PHOTOGRAPHS[number % len(PHOTOGRAPHS)]).json()["id"] for number in range(count)]


@contextmanager
def flood(stack: RunningStack) -> Iterator[list[str]]:
    """Keep submitting, from a thread, while the block runs."""
    enough, accepted = Event(), []

    def submit_on() -> None:
        while not enough.is_set() and len(accepted) < FLOOD:
            accepted.extend(submit(stack, 1))

    thread = Thread(target=submit_on)
    thread.start()
    try:
        yield accepted
    finally:
        enough.set()
        thread.join()


@contextmanager
def halted_worker(stack: RunningStack) -> Iterator[list[str]]:
    """Stop the worker's process in the middle of a batch; yield the cases that it holds, and one that waits."""
    while True:
        submit(stack, 16)
        wait_until(lambda: list_cases(stack.http, state="running"), timeout_s=30)
        try:
            worker = stack.pid("worker")
        except ProcessLookupError:  # one that was halted for too long was ended by its watchdog: the next one comes
            continue
        halt(worker)
        held, further = list(list_cases(stack.http, state="running")), stack.submit(PHOTOGRAPHS[0])
        if held and further.status_code == 202:
            break
        os.kill(worker, signal.SIGCONT)  # the batch was done by then, or it was halted while holding SQLite's lock
    try:
        yield [*held, further.json()["id"]]
    finally:
        os.kill(worker, signal.SIGCONT)


def list_cases(http: httpx.Client, **query) -> dict[str, dict]:
    answer = http.get("/v1/cases", params={"limit": 200, **query})
    return {case["id"]: case for case in answer.json()["cases"]}


def read_pictures(http: httpx.Client, case: dict) -> list[bytes]:
    """Return the photograph, the overlay and the raw map."""
    answers = [
        http.get(case["links"]["image"]),
        http.get(case["links"]["heatmap"]),
        http.get(case["links"]["heatmap"], params={"style": "raw", "class": "nevus"}),
    ]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.content for answer in answers]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Saved:
    folder = tmp_path_factory.mktemp("saved")
    data_dir, files = folder / "data", [folder / f"{name}.tar" for name in ("flowing", "halted", "asleep")]
    with ExitStack() as resources:
        stack = RunningStack(data_dir, {})
        resources.callback(stack.stop)
        deleted, *finished = [case["id"] for case in stack.finish(submit(stack, 9))]
        assert stack.http.delete(f"/v1/cases/{deleted}").status_code == 202
        with flood(stack) as accepted:
            wait_until(lambda: accepted)
            dermqueue("backup", files[0], "--data-dir", data_dir)
        with halted_worker(stack) as waiting:
            dermqueue("backup", files[1], "--data-dir", data_dir)
        result = Saved(*files, deleted, finished, waiting, stack.connection)
        stack.finish(list(list_cases(stack.http)))
        result.cases = list_cases(stack.http)
        result.pictures = {case_id: read_pictures(stack.http, case) for case_id, case in result.cases.items()}
    dermqueue("backup", files[2], "--data-dir", data_dir)
    return result


@contextmanager
def restored(file: Path, tmp_path: Path) -> Iterator[RunningStack]:
    """Restore a backup into a stack and start it."""
    dermqueue("restore", file, "--data-dir", tmp_path / "restored")
    stack = RunningStack(tmp_path / "restored", {})
    try:
        yield stack
    finally:
        stack.stop()


def test_every_case_that_was_saved_while_cases_flowed_is_read_back_with_the_old_keys(saved, tmp_path):
    with restored(saved.flowing, tmp_path) as stack:
        names = ("admin_key", "reviewer_key", "clinic_key")
        assert [stack.connection[name] for name in names] == [saved.keys[name] for name in names]
        cases = {case["id"]: case for case in stack.finish(list(list_cases(stack.http)))}
        assert set(saved.finished) < cases.keys() <= saved.cases.keys()
        assert stack.http.get(f"/v1/cases/{saved.deleted}").status_code == 404
        for case_id, case in cases.items():
            photograph, *heatmaps = read_pictures(stack.http, case)
            assert photograph == saved.pictures[case_id][0]
            assert case["result"]["probabilities"] == pytest.approx(
                saved.cases[case_id]["result"]["probabilities"], abs=0.01
            )
            if case_id in saved.finished:
                assert case == saved.cases[case_id]
                assert heatmaps == saved.pictures[case_id][1:]
        assert "newest hash" in dermqueue("audit", "verify", "--data-dir", stack.data_dir)


def test_what_waited_or_was_held_by_a_worker_is_analysed_by_the_restored_stack(saved, tmp_path):
    with restored(saved.halted, tmp_path) as stack:
        assert {case["state"] for case in stack.finish(saved.waiting)} == {"succeeded"}


def test_a_stack_that_does_not_run_is_backed_up_all_the_same(saved, tmp_path):
    told = dermqueue("restore", saved.asleep, "--data-dir", tmp_path / "restored")
    count = len(saved.cases)
    assert f"{count} cases with {2 * count} photographs and heatmaps restored and read back" in told
