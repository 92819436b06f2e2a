"""How much memory each program takes, and whether the worker's stays flat over many cases.

`python -m tests.benchmarks.memory --cases N` for another number of cases than the benchmark's.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import psutil
from sqlalchemy import func, select

from shared.database import Database
from shared.domain import State
from shared.tables import CaseRow
from tests.benchmarks.ours import drain, running_system
from tests.benchmarks.piles import SMALL, repeat, resized
from tests.faults.rig import Rig
from tests.sampling import sampled

CASES, CASES_QUICK = 10_000, 1_000
EARLY = 500
"""Cases after which memory should grow no more."""

_PROGRAMS = ("api", "worker", "beat", "valkey", "seaweed")
_SAMPLED_EVERY_S = 1.0
_BYTES_PER_MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """How many cases were done, and each program's memory (MiB; pages that processes share are shared out)."""

    done: int
    mib: Mapping[str, float]


def measure(quick: bool) -> dict:
    """Return the worker's memory over the cases done, and the peak of every program, in MiB."""
    return follow(CASES_QUICK if quick else CASES)


def follow(cases: int) -> dict:
    """Drain this many small photographs on the embedded stack and watch the memory of its programs."""
    with tempfile.TemporaryDirectory() as name:
        photographs = repeat(resized(Path(name) / "small", SMALL), cases)
        system = running_system("embedded", DERMQUEUE_CLINIC_WAITING_LIMIT=str(cases))
        with system as rig, sampled(partial(_sample, rig), _SAMPLED_EVERY_S) as samples:
            seconds = drain(rig, ["worker"], photographs)
    return {
        "ratios": {"memory_growth": find_growth(samples)},
        "cases": cases,
        "photographs_per_s": cases / seconds,
        "peak_mib": {program: max(sample.mib[program] for sample in samples) for program in samples[0].mib},
        "worker_mib": [(sample.done, sample.mib["worker"]) for sample in samples],
    }


def find_growth(samples: Sequence[Sample]) -> float:
    """Return the worker's peak over its peak while the first `EARLY` cases were done."""
    early = max(sample.mib["worker"] for sample in samples if sample.done <= EARLY)
    return max(sample.mib["worker"] for sample in samples) / early


def _sample(rig: Rig) -> Sample:
    return Sample(_count_done(rig.database), {name: _tree_mib(rig.pid(name)) for name in _PROGRAMS})


def _count_done(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(CaseRow).where(CaseRow.state == State.SUCCEEDED))


def _tree_mib(pid: int) -> float:
    """Return the proportional set size of a process and all that it started."""
    process = psutil.Process(pid)
    return sum(each.memory_full_info().pss for each in (process, *process.children(recursive=True))) / _BYTES_PER_MIB


@click.command(help=__doc__)
@click.option("--cases", default=CASES, show_default=True, help="How many are drained.")
def main(cases: int) -> None:
    click.echo(json.dumps(follow(cases), indent=2))


if __name__ == "__main__":
    main()
