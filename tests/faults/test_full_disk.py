"""Full disks: nothing new is accepted, nothing that was accepted is lost, and with room again everything continues."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from tests.faults import small_disk
from tests.faults.audit import Outcome, until_first_end
from tests.faults.load import PHOTOGRAPHS
from tests.faults.rig import Rig, running_rig
from tests.faults.sizes import FULL, Sizes
from tests.waiting import wait_until

LONGEST_FILE_BYTES = 64 * 1024

SMALL_DISK_BYTES = 700_000_000
CHUNK_BYTES = 64 * 1024
FILLED_AGAIN_AFTER_S = 0.05
ROOM_SEEN_WITHIN_S = 70
"""SeaweedFS checks once a minute."""


@pytest.mark.only_on("embedded")
def test_a_database_whose_writes_fail_refuses_cases_and_loses_none(rig, sizes):
    outcome = fail(rig, sizes, failing_writes(rig), "SQLite's writes fail")
    assert outcome.recovery_s <= sizes.recovery_s


@pytest.mark.parametrize("flavour", ["embedded", "postgresql"])
@pytest.mark.briefly_on
def test_a_disk_that_fills_up_under_all_servers_loses_no_case(outcomes, flavour):
    with tempfile.TemporaryDirectory(prefix="dermqueue-faults-") as folder:
        Path(folder).chmod(0o755)
        on_small_disk = (sys.executable, small_disk.__file__, folder, str(SMALL_DISK_BYTES))
        command = (*on_small_disk, sys.executable, "-m", __name__, flavour, folder)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    outcome = Outcome(**json.loads(done.stdout.splitlines()[-1]))
    outcomes.append(outcome)
    assert outcome.recovery_s <= ROOM_SEEN_WITHIN_S


def fail(rig: Rig, sizes: Sizes, failing: AbstractContextManager, fault: str) -> Outcome:
    """Submit while the disks fail, and settle."""
    with rig.submitting(sizes.cases) as load:
        rig.await_work()
        with failing:
            wait_until(lambda: is_refused(rig), timeout_s=60)
            time.sleep(sizes.away_s)
        healed_at = datetime.now(UTC)
    outcome = rig.settle(load, fault, recovery=until_first_end(healed_at), timeout_s=300)
    assert outcome.failed == 0
    return outcome


def is_refused(rig: Rig) -> bool:
    answer = rig.stack.submit(PHOTOGRAPHS[0].read_bytes())
    assert answer.status_code in (202, 503), answer.text
    return answer.status_code == 503


@contextmanager
def failing_writes(rig: Rig) -> Iterator[None]:
    """Make every write to the database's files beyond their beginning fail inside the block.

    Not for PostgreSQL: the limit would apply to its shared memory, too.
    """
    limit_files(rig, LONGEST_FILE_BYTES)
    try:
        yield
    finally:
        limit_files(rig, psutil.RLIM_INFINITY)


def limit_files(rig: Rig, longest_bytes: int) -> None:
    """Set a limit that can be lifted again; children that are started later inherit it."""
    for name in ("api", "worker"):
        parent = psutil.Process(rig.pid(name))
        for process in (parent, *parent.children()):
            with suppress(psutil.NoSuchProcess):
                _, highest = process.rlimit(psutil.RLIMIT_FSIZE)
                process.rlimit(psutil.RLIMIT_FSIZE, (longest_bytes, highest))


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no room on the folder's disk inside the block, even when somebody frees some."""
    filler, over = folder / "filler", threading.Event()

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            while not over.is_set():
                try:
                    file.write(bytes(CHUNK_BYTES))
                except OSError:
                    over.wait(FILLED_AGAIN_AFTER_S)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        filler.unlink()


def main(flavour: str, folder: Path) -> None:
    """Fill the disk under a rig of its own, and print the outcome."""
    with running_rig(flavour, folder, []) as rig:
        outcome = fail(rig, FULL, filled(folder), "disk full under all servers")
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
