"""The supervisor, with small programs of Python for children."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded import supervisor
from deploy.embedded.program import Program
from deploy.embedded.supervisor import StartFailed
from tests.deploy.stage import Stage
from tests.waiting import is_running, wait_until

pytestmark = pytest.mark.timeout(60)

SLEEP = "import time; time.sleep(600)"
IGNORE_TERM = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""
LEAVE_A_CHILD = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
half = pathlib.Path(sys.argv[1] + ".half")
half.write_text(str(child.pid))
half.rename(sys.argv[1])
time.sleep(600)
"""
# Ends only once the other has been told to end, too: one after the other, the first would be killed.
LEAVE_TOGETHER = """
import pathlib, signal, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])

def leave(*_):
    mine.unlink()
    while other.exists():
        time.sleep(0.01)
    sys.exit()

signal.signal(signal.SIGTERM, leave)
mine.touch()
time.sleep(600)
"""
CONFESS = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
print("cannot go on", flush=True)
time.sleep(600)
"""
DIE = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
for line in sys.argv[3:]:
    print(line)
sys.exit(int(sys.argv[2]))
"""
SUPERVISE_A_SLEEPER = """
import sys
from pathlib import Path
from threading import Event
from deploy.embedded.program import Program
from deploy.embedded.supervisor import Supervisor

def tell(name, event, detail):
    print(event, detail, flush=True)

data_dir = Path(sys.argv[1])
awake = data_dir / "awake"
show_and_sleep = f"import pathlib, time; pathlib.Path({str(awake)!r}).touch(); time.sleep(600)"
sleeper = Program("sleeper", (sys.executable, "-c", show_and_sleep), env={}, is_ready=awake.exists)
with Supervisor(data_dir, tell) as supervisor:
    supervisor.start([sleeper], Event())
    supervisor.run_until(Event())
"""


def python(name: str, source: str, *arguments: object, **settings) -> Program:
    argv = (sys.executable, "-I", "-S", "-c", source, *map(str, arguments))
    return Program(name, argv, **{"env": {}, "stop_timeout_s": 5.0} | settings)


def start_hapless(stage: Stage, tmp_path: Path, status: int, *last_words: str) -> None:
    """Start a program that dies again and again, but not before it counts as started."""
    may_die = tmp_path / "may-die"
    stage.start(python("hapless", DIE, may_die, status, *last_words))
    may_die.touch()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path) as stage:
        yield stage


def test_each_program_starts_once_the_one_before_is_ready(stage: Stage):
    answers = iter([False, False, True])
    stage.start(python("first", SLEEP, is_ready=lambda: next(answers)), python("second", SLEEP))
    assert stage.told() == [("first", "started"), ("first", "ready"), ("second", "started")]


def test_the_last_start_stops_first_and_what_it_started_stops_side_by_side(stage: Stage, tmp_path: Path):
    left, right = tmp_path / "left", tmp_path / "right"
    stage.start(python("server", SLEEP))
    stage.start(
        python("left", LEAVE_TOGETHER, left, right, is_ready=left.exists),
        python("right", LEAVE_TOGETHER, right, left, is_ready=right.exists),
    )
    pids = [stage.pid(name) for name in ("server", "left", "right")]
    already_told = len(stage.told())
    stage.supervisor.stop()
    *clients, last = stage.told()[already_told:]
    assert sorted(clients) == [("left", "stopped"), ("right", "stopped")]
    assert last == ("server", "stopped")
    assert not any(is_running(pid) for pid in pids)


def test_a_killed_program_is_restarted_and_the_callback_says_so(stage: Stage):
    stage.start(python("phoenix", SLEEP, is_ready=lambda: True), python("neighbour", SLEEP))
    first, neighbour = stage.pid("phoenix"), stage.pid("neighbour")
    stage.kill_and_await_revival("phoenix")

    assert ("phoenix", "died", "signal 9; restarting in 0.5 s") in stage.events
    assert not is_running(first)
    assert is_running(stage.pid("phoenix"))
    assert stage.pid("neighbour") == neighbour


def test_a_program_whose_log_says_that_it_is_broken_is_restarted_once(stage: Stage, tmp_path: Path):
    trouble = tmp_path / "trouble"
    trouble.touch()

    def is_broken(news: str) -> bool:
        if "cannot go on" in news:
            trouble.unlink()
        return "cannot go on" in news

    stage.start(python("invalid", CONFESS, trouble, is_ready=lambda: True, is_broken=is_broken))
    first = stage.pid("invalid")
    stage.run_until(lambda: stage.count("invalid", "ready") == 2)
    assert [event for _, event in stage.told()] == ["started", "ready", "broken", "died", "started", "ready"]
    assert not is_running(first)


def test_a_programs_log_is_read_from_the_start_once_it_was_truncated(stage: Stage, tmp_path: Path):
    trouble, log = tmp_path / "trouble", tmp_path / "logs" / "invalid.log"
    log.parent.mkdir()
    log.write_text("said before\n" * 99)
    stage.start(
        python("invalid", CONFESS, trouble, is_ready=lambda: True, is_broken=lambda news: "cannot go on" in news)
    )
    log.write_text("")
    trouble.touch()
    stage.run_until(lambda: stage.count("invalid", "broken") == 1)


def test_the_pause_grows_while_a_program_keeps_dying(stage: Stage, tmp_path: Path):
    start_hapless(stage, tmp_path, 3)
    stage.run_until(lambda: stage.count("hapless", "died") == 3)
    assert [detail for _, event, detail in stage.events if event == "died"] == [
        "exit code 3; restarting in 0.5 s",
        "exit code 3; restarting in 1.0 s",
        "exit code 3; restarting in 2.0 s",
    ]


def test_a_program_that_dies_is_reported_with_the_last_line_of_its_log(stage: Stage, tmp_path: Path):
    start_hapless(stage, tmp_path, 1, "reading", "the bundle is damaged")
    stage.run_until(lambda: stage.count("hapless", "died") == 1)
    assert stage.events[-1][2] == "exit code 1; restarting in 0.5 s. the bundle is damaged"


def test_the_pause_is_short_again_for_a_program_that_had_recovered(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervisor, "RECOVERED_AFTER_S", 0.0)
    start_hapless(stage, tmp_path, 3)
    stage.run_until(lambda: stage.count("hapless", "died") == 2)
    assert stage.events[-1][2] == "exit code 3; restarting in 0.5 s"


def test_a_program_that_ends_before_it_is_ready_fails_the_start_and_shows_its_log(stage: Stage, tmp_path: Path):
    broken = python("broken", "print('the disk is full'); raise SystemExit(2)", is_ready=lambda: False)
    with pytest.raises(StartFailed, match="broken ended with exit code 2 before it was ready") as failure:
        stage.start(broken)
    assert str(tmp_path / "logs" / "broken.log") in failure.value.detail
    assert failure.value.detail.endswith("the disk is full")


def test_a_program_that_is_never_ready_fails_the_start_and_is_stopped(stage: Stage):
    with pytest.raises(StartFailed, match="slow was not ready after 0 s"), stage.supervisor:
        stage.start(python("slow", SLEEP, is_ready=lambda: False, start_timeout_s=0.3))
    assert not is_running(stage.pid("slow"))


def test_a_stop_during_the_start_starts_no_more_programs(stage: Stage):
    def stop_arrives() -> bool:
        stage.stop_event.set()
        return False

    stage.start(python("first", SLEEP, is_ready=stop_arrives), python("second", SLEEP))
    assert stage.told() == [("first", "started")]


def test_a_program_that_ignores_its_stop_signal_is_killed(stage: Stage, tmp_path: Path):
    marker = tmp_path / "ignoring"
    stage.start(python("deaf", IGNORE_TERM, marker, is_ready=marker.exists, stop_timeout_s=0.3))
    stage.supervisor.stop()
    assert stage.told()[-2:] == [("deaf", "killed"), ("deaf", "stopped")]
    assert not is_running(stage.pid("deaf"))


def test_a_dead_program_leaves_no_process_behind(stage: Stage, tmp_path: Path):
    note = tmp_path / "child-pid"
    stage.start(python("parent", LEAVE_A_CHILD, note, is_ready=note.exists))
    orphan = int(note.read_text())
    note.unlink()
    stage.kill_and_await_revival("parent")
    wait_until(lambda: not is_running(orphan))


def test_a_program_inherits_nothing_from_our_environment(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DERMQUEUE_SECRET", "ours")
    source = "import os; print(sorted(os.environ)); raise SystemExit(1)"
    with pytest.raises(StartFailed) as failure:
        stage.start(python("nosy", source, is_ready=lambda: False, env={"ITS_OWN": "1"}))
    assert "ITS_OWN" in failure.value.detail
    assert "DERMQUEUE_SECRET" not in failure.value.detail


def test_a_program_does_not_inherit_the_signals_that_python_ignores(stage: Stage):
    show = ("/bin/sh", "-c", "grep SigIgn /proc/$$/status; exit 1")
    with pytest.raises(StartFailed) as failure:
        stage.start(Program("sh", show, env={}, is_ready=lambda: False))
    label, mask = failure.value.detail.split()[-2:]
    assert label == "SigIgn:"
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not int(mask, 16) >> (ignored_by_python - 1) & 1


def test_a_program_dies_with_a_supervisor_that_is_killed(tmp_path: Path):
    root = str(Path(supervisor.__file__).parents[2])
    command = [sys.executable, "-c", SUPERVISE_A_SLEEPER, str(tmp_path)]
    with subprocess.Popen(command, cwd=root, env=dict(os.environ, PYTHONPATH=root), stdout=subprocess.PIPE) as owner:
        pid = int(owner.stdout.readline().split()[2])
        assert owner.stdout.readline().startswith(b"ready")
        owner.kill()
    wait_until(lambda: not is_running(pid))
