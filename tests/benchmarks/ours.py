"""The whole system as a contender: cases are handed in over HTTP beforehand, then the worker drains them."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import func, select

from shared.database import Database
from shared.domain import State
from shared.settings import Settings
from shared.tables import CaseRow
from tests.benchmarks.contender import Contender
from tests.faults.rig import Rig, running_rig
from tests.waiting import wait_until

FLAVOURS = ("embedded", "postgresql")
SECOND_WORKER = "second worker"
LONGEST_S = 3600
_LOOKED_EVERY_S = 0.05
"""Whether all is done; every look takes time from those who are measured."""
_DEFAULT_LEASE = {"DERMQUEUE_LEASE_S": str(Settings.model_fields["lease_s"].default)}


@contextmanager
def running_system(flavour: str, **variables: str) -> Iterator[Rig]:
    """Run all of it with a user's settings but for these; PostgreSQL with its own."""
    # Not in the user's own temporary folder: PostgreSQL, which does not run as root, must reach it.
    with tempfile.TemporaryDirectory(prefix="dermqueue-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running_rig(flavour, folder, [], {**_DEFAULT_LEASE, **variables}, postgres_options=()) as rig:
            yield rig


def ours(flavour: str, workers: int = 1) -> Contender:
    """Return the system with one or two worker processes."""
    names = ("worker", SECOND_WORKER)[:workers]

    @contextmanager
    def running() -> Iterator[Callable[[Sequence[Path]], float]]:
        with running_system(flavour) as rig, ExitStack() as resources:
            if workers > 1:
                resources.enter_context(rig.beside(rig.further(SECOND_WORKER)))
            yield partial(drain, rig, names)

    return Contender(f"DermQueue, {flavour}" + (f", {workers} workers" if workers > 1 else ""), running)


def drain(rig: Rig, workers: Sequence[str], photographs: Sequence[Path]) -> float:
    """Return the seconds from the moment when the workers may begin to the end of the last case.

    Fails unless every case has succeeded and its overlay is stored.
    """
    load = rig.submitting(len(photographs), photographs)
    with ExitStack() as frozen:
        for name in workers:
            frozen.enter_context(rig.frozen(name))
        with load:
            pass
    begun_s = time.perf_counter()
    wait_until(lambda: count_open(rig.database) == 0, LONGEST_S, _LOOKED_EVERY_S)
    taken_s = time.perf_counter() - begun_s
    rig.settle(load, "none")
    assert load.refused == {}, load.refused
    assert {trace.state for trace in rig.observe(load)} == {State.SUCCEEDED}
    return taken_s


def count_open(database: Database) -> int:
    """Return how many cases wait or run."""
    is_open = CaseRow.state.in_((State.QUEUED, State.RUNNING))
    with database.autocommitting() as connection:
        return connection.scalar(select(func.count()).select_from(CaseRow).where(is_open))
