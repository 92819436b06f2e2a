"""What a case costs: processor time of every program, and what PostgreSQL writes."""

import resource
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
from sqlalchemy import text

from shared.database import Database
from tests.rehearsal.system import System

_SQL = (
    "SELECT pg_database_size(current_database()), pg_current_wal_lsn() - '0/0', sum(xact_commit) FROM pg_stat_database"
)


@dataclass(frozen=True)
class Meters:
    """Since the start: processor seconds by program; PostgreSQL's bytes on disk, bytes of log, and commits."""

    cpu_s: Mapping[str, float]
    sql_bytes: float
    wal_bytes: float
    commits: float


def read_meters(system: System, database: Database) -> Meters:
    """Read what has been used so far. Workers count once they have ended."""
    with database.reading() as session:
        sql_bytes, wal_bytes, commits = map(float, session.execute(text(_SQL)).one())
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = {name: _cpu_s_of_tree(pid) for name, pid in system.processes.items()}
    return Meters(cpu_s | {"workers": of_children.ru_utime + of_children.ru_stime}, sql_bytes, wal_bytes, commits)


def _cpu_s_of_tree(pid: int) -> float:
    """Sum up a process, its children that have ended, and those that live."""
    process = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:4]) for each in (process, *process.children(recursive=True)))
