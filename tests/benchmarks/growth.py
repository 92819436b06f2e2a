"""What more rows cost: each step of the queue and each page with a thousand, 100 thousand and a million cases.

`python -m tests.benchmarks.growth`

On PostgreSQL and SQLite; one clinic, or a thousand of which one sends every second case; a service in use, or a backlog
of which everything waits. The three sizes of such a set-up stand side by side and take turns, so that what else the
machine does slows all of them alike. Times are of the store's functions in one transaction, from the pool's connection
to the end of the commit, without HTTP:

- claim: `sweep_leases` and `claim_cases` of a batch, as a worker does; record: the results of that batch. Then claims
  once more, after up to 20,000 cases at the head of the largest size's queue were taken.
- submit: `add_case` with its entry in the trail. sweep: the sweeper's transaction.
- poll: `read_case` and `find_unread` of a finished case (of a waiting one in a backlog), without authentication, whose
  cost knows nothing of the cases.
- list: a page of a clinic, the first and one far back; of a state and of a reference; all clinics' as a reviewer.
- worklist: its first page, with the count.

What a turn has changed is undone after it, without being timed, so that every size stays what it is.
"""

import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from uuid import uuid4

import click
from sqlalchemy import URL, NullPool, Row, create_engine, delete, func, make_url, select, text, update
from sqlalchemy.orm import Session

from shared.database import Database, open_database, read_clock
from shared.domain import Caller, Lease, Role, State
from shared.store import cases, queue, trail, webhooks, worklist
from shared.store.cases import CaseFilter
from shared.tables import AnalysisRow, CaseRow
from tests.benchmarks.many_cases import BACKLOG, LEASE_S, MIXED, fill
from tests.factories import new_case
from tests.servers.postgres import running_postgres
from tests.shared.steps import MAPS, analysis_of

SIZES, QUICK_SIZES = (1000, 100_000, 1_000_000), (1000, 100_000)
CLINICS = (1, 1000)
MIXES = {"in use": MIXED, "backlog": BACKLOG}
BATCH = 16
PAGE, SHORT_PAGE = 51, 4
"""A page and the row that tells whether there is another; of a rare state, as many as the smallest size has."""
_WARM_UP = 10
_DRAINED, _DRAINED_AT_ONCE = 20_000, 500

Seconds = dict[str, list[float]]


@dataclass
class Estate:
    """One database of one size. `taken` holds what each step took, in seconds."""

    database: Database
    caller: Caller
    seen: Sequence[Row]
    states: Sequence[State]
    taken: Seconds = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def timed(self, step: str, writes: bool = False) -> Iterator[Session]:
        begun = time.perf_counter()
        with self.database.writing() if writes else self.database.reading() as session:
            yield session
        self.taken[step].append(time.perf_counter() - begun)


def measure(quick: bool = False, rounds: int | None = None) -> dict:
    """Return `figures` (a median and a 95th percentile in ms for each step, size and set-up) and `ratios`.

    A ratio is the 95th percentile of the largest size over that of the smallest, the worst of all set-ups.
    """
    sizes, rounds = QUICK_SIZES if quick else SIZES, rounds or (60 if quick else 300)
    figures = []
    for kind in ("postgresql", "sqlite"):
        for clinics in CLINICS:
            for mix in MIXES:
                found = _measure_sizes(kind, clinics, mix, sizes, rounds)
                figures += [{"database": kind, "clinics": clinics, "mix": mix, **figure} for figure in found]
    return {"figures": figures, "ratios": _worst_growth(figures, sizes)}


def _measure_sizes(kind: str, clinics: int, mix: str, sizes: Sequence[int], rounds: int) -> list[dict]:
    with _settled(kind, clinics, mix, sizes) as estates:
        for number in range(_WARM_UP + rounds):
            for estate in estates:
                if number == _WARM_UP:
                    estate.taken.clear()
                _take_turn(estate, number)
        _drain(estates[-1])
        for _ in range(rounds):
            for estate in estates:
                _put_back(estate, _claim(estate, "claim after a drain"))
        return [
            {"rows": rows, "steps": {step: _summarise(taken) for step, taken in estate.taken.items()}}
            for rows, estate in zip(sizes, estates, strict=True)
        ]


def _take_turn(estate: Estate, number: int) -> None:
    """Do once what workers, clinics and reviewers do, and undo what it changed."""
    _work(estate)
    _submit(estate)
    _look(estate, random.Random(number))


def _claim(estate: Estate, step: str) -> Sequence[Lease]:
    with estate.timed(step, writes=True) as session:
        now = read_clock(session)
        queue.sweep_leases(session, now)
        return queue.claim_cases(session, BATCH, LEASE_S, now)


def _put_back(estate: Estate, leases: Sequence[Lease]) -> None:
    with estate.database.writing() as session:
        for lease in leases:
            queue.return_case(session, lease, read_clock(session), alone=False, counted=False)


def _drain(estate: Estate) -> None:
    """Take the head of the queue away; half of it where that is less."""
    with estate.database.reading() as session:
        waiting = queue.count_waiting(session, read_clock(session), at_most=2 * _DRAINED)
    for _ in range(waiting // 2 // _DRAINED_AT_ONCE):
        with estate.database.writing() as session:
            queue.claim_cases(session, _DRAINED_AT_ONCE, LEASE_S, read_clock(session))


def _work(estate: Estate) -> None:
    leases = _claim(estate, "claim")
    with estate.timed("record", writes=True) as session:
        now = read_clock(session)
        found = [(lease, analysis_of(lease), MAPS) for lease in leases]
        recorded = list(queue.record_analyses(session, found, now).written)
        webhooks.announce(session, recorded, now)
        trail.audit(session, trail.WORKER, "case.succeeded", recorded, now)
    with estate.timed("sweep", writes=True) as session:
        now = read_clock(session)
        queue.sweep_leases(session, now)
        worklist.rank_unranked(session, 1000)
        queue.count_waiting(session, now, at_most=2 * BATCH)
    with estate.database.writing() as session:
        ended = {"finished_at": None, "review_rank": None, "decision": None}
        session.execute(update(CaseRow).where(CaseRow.id.in_(recorded)).values(state=State.QUEUED, attempts=0, **ended))
        session.execute(delete(AnalysisRow).where(AnalysisRow.case_id.in_(recorded)))


def _submit(estate: Estate) -> None:
    case = new_case(estate.caller.clinic_id)
    with estate.timed("submit", writes=True) as session:
        now = read_clock(session)
        cases.add_case(session, case, now)
        trail.audit(session, estate.caller, "case.submitted", [case.id], now)
    with estate.database.writing() as session:
        session.execute(delete(CaseRow).where(CaseRow.id == case.id))


def _look(estate: Estate, dice: random.Random) -> None:
    caller, reviewer = estate.caller, Caller(uuid4(), Role.REVIEWER, None)
    seen, state = dice.choice(estate.seen), dice.choice(estate.states)
    with estate.timed("poll") as session:
        cases.read_case(session, caller, seen.id)
        trail.find_unread(session, caller, [seen.id])
    far = seen.submitted_at, seen.id
    for step, who, wanted, limit in (
        ("list", caller, CaseFilter(), PAGE),
        ("list, further page", caller, CaseFilter(before=far), PAGE),
        ("list of a state", caller, CaseFilter(state), SHORT_PAGE),
        ("list of a state, further page", caller, CaseFilter(state, before=far), SHORT_PAGE),
        ("list of a reference", caller, CaseFilter(reference=seen.reference), PAGE),
        ("list of all clinics", reviewer, CaseFilter(), PAGE),
        ("list of all clinics, of a state", reviewer, CaseFilter(state), SHORT_PAGE),
        ("list of all clinics, of a reference", reviewer, CaseFilter(reference=seen.reference), PAGE),
    ):
        with estate.timed(step) as session:
            cases.list_cases(session, who, wanted, limit)
    with estate.timed("worklist") as session:
        worklist.list_worklist(session, worklist.WorklistFilter(), PAGE)
        worklist.count_worklist(session, worklist.WorklistFilter())


@contextmanager
def _settled(kind: str, clinics: int, mix: str, sizes: Sequence[int]) -> Iterator[list[Estate]]:
    """Fill a database for each size; they last as long as the context."""
    with ExitStack() as stack:
        if kind == "postgresql":
            server = make_url(stack.enter_context(running_postgres()))
            filled = [_fill_postgresql(server, clinics, mix, rows) for rows in sizes]
        else:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="dermqueue-growth-")))
            filled = [_fill_sqlite(folder, clinics, mix, rows) for rows in sizes]
        for database, _ in filled:
            stack.callback(database.engine.dispose)
        yield [_look_around(*each, mix) for each in filled]


def _fill_postgresql(server: URL, clinics: int, mix: str, rows: int) -> tuple[Database, Caller]:
    admin = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE rows_{rows}"))
    database = open_database(server.set(database=f"rows_{rows}").render_as_string(hide_password=False))
    return database, fill(database, clinics, MIXES[mix], rows)


def _fill_sqlite(folder: Path, clinics: int, mix: str, rows: int) -> tuple[Database, Caller]:
    """Fill it in memory and then write it down, which is quicker."""
    in_memory = open_database("sqlite://")
    caller = fill(in_memory, clinics, MIXES[mix], rows)
    in_memory.engine.raw_connection().cursor().execute(f"VACUUM INTO '{folder}/{rows}.sqlite3'")
    in_memory.engine.dispose()
    return open_database(f"sqlite:///{folder}/{rows}.sqlite3"), caller


def _look_around(database: Database, caller: Caller, mix: str) -> Estate:
    """Choose what will be looked at: cases in the middle, so that there are further pages even of a thousand."""
    polled = State.QUEUED if mix == "backlog" else State.SUCCEEDED
    mine = CaseRow.clinic_id == caller.clinic_id, CaseRow.state == polled
    with database.reading() as session:
        number = session.scalar(select(func.count()).select_from(CaseRow).where(*mine))
        query = select(CaseRow.id, CaseRow.submitted_at, CaseRow.reference).where(*mine)
        around = query.order_by(CaseRow.submitted_at).offset(number // 2).limit(min(number // 10, 1000))
        seen = session.execute(around).all()
    return Estate(database, caller, seen, sorted({State.RUNNING, *(state for state, _ in MIXES[mix])}))


def _summarise(taken_s: Sequence[float]) -> dict[str, float]:
    p95_s = quantiles(taken_s, n=20)[-1]
    return {"median_ms": 1000 * median(taken_s), "p95_ms": 1000 * p95_s, "worst_ms": 1000 * max(taken_s)}


def _worst_growth(figures: Sequence[Mapping], sizes: Sequence[int]) -> dict[str, float]:
    """Return for each step that grows by name (`list` takes all its kinds together) the worst ratio of all set-ups."""
    growth = defaultdict(float)
    for small in (figure for figure in figures if figure["rows"] == sizes[0]):
        set_up = {name: small[name] for name in ("database", "clinics", "mix")}
        (large,) = [figure for figure in figures if figure | set_up == figure and figure["rows"] == sizes[-1]]
        for step, taken in small["steps"].items():
            name = f"{step.split()[0].strip(',')}_growth"
            growth[name] = max(growth[name], large["steps"][step]["p95_ms"] / taken["p95_ms"])
    return dict(growth)


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Stop at 100 thousand cases, with fewer rounds.")
@click.option("--rounds", type=int, help="Turns that are measured.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Where to write all figures.")
def main(quick: bool, rounds: int | None, path: Path | None) -> None:
    found = measure(quick, rounds)
    for figure in found["figures"]:
        click.echo(f"{figure['database']}, {figure['clinics']} clinics, {figure['mix']}, {figure['rows']:,} cases")
        for step, taken in figure["steps"].items():
            click.echo(f"  {step:36s} median {taken['median_ms']:8.2f} ms   p95 {taken['p95_ms']:8.2f} ms")
    for name, ratio in found["ratios"].items():
        click.echo(f"{name:18s} {ratio:.2f}")
    if path:
        path.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
