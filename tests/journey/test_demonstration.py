"""`dermqueue demo` where it has to start a stack of its own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.bundle import SHIPPED_BUNDLES, WEIGHTS_NAME
from tests.journey.stack import DERMQUEUE


@contextmanager
def demonstrating(folder: Path, **variables: str) -> Iterator[subprocess.Popen]:
    command = (*DERMQUEUE, "demo", "--data-dir", str(folder / "data"), "--out", str(folder))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **output) as demo:
        try:
            yield demo
        finally:
            demo.terminate()


def test_a_demonstration_whose_worker_cannot_start_ends_with_the_reason(tmp_path):
    damaged = shutil.copytree(SHIPPED_BUNDLES / "portable", tmp_path / "damaged")
    (damaged / WEIGHTS_NAME).write_bytes(b"cut off")
    with demonstrating(tmp_path, DERMQUEUE_MODEL=str(damaged)) as demo:
        _, said = demo.communicate(timeout=120)
    assert demo.returncode == 1
    assert "worker ended with exit code 1 before it was ready" in said
    assert "bundle_damaged" in said


def test_a_worker_that_is_killed_during_a_demonstration_is_restarted(tmp_path):
    with demonstrating(tmp_path) as demo:
        words = iter(line.split() for line in demo.stdout)
        worker = next(int(word[3]) for word in words if word[:2] == ["worker", "started"])
        next(word for word in words if word[:2] == ["worker", "ready"])
        os.kill(worker, signal.SIGKILL)
        shown, said = demo.communicate(timeout=240)
    assert demo.returncode == 0, shown + said
    assert "worker     died signal 9; restarting" in said
    assert len(list(tmp_path.glob("*.png"))) == 8
