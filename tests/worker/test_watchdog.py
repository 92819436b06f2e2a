"""A process that hangs is ended from within."""

import subprocess
import sys

from worker.watchdog import EXIT_STUCK

HANGING = """
import threading
from worker.watchdog import Watchdog

with Watchdog({limit_s}).watching():
    threading.Event().wait({work_s})
"""


def _run(limit_s: float, work_s: float) -> int:
    code = HANGING.format(limit_s=limit_s, work_s=work_s)
    return subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True).returncode


def test_work_that_outlasts_its_lease_ends_the_process():
    assert _run(limit_s=0.2, work_s=20) == EXIT_STUCK


def test_work_that_is_done_in_time_is_left_alone():
    assert _run(limit_s=20, work_s=0.2) == 0
