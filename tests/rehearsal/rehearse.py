"""A day of clinics against the real system, whose workers come and go by the rule of the cluster's manifest."""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from sqlalchemy import select, text

from deploy.client import Client, Connection
from shared.database import Database, open_database
from shared.domain import Role, State
from shared.tables import CaseRow
from tests import factories
from tests.images import encode, lesion
from tests.rehearsal.autoscaler import Autoscaler, Rule
from tests.rehearsal.costs import Meters, read_meters
from tests.rehearsal.day import draw_arrivals
from tests.rehearsal.system import Fleet, System, running_system

LOOK_EVERY_S = 1.0
SENDERS = 16
CLINICS = 8
REAL_DAY_S = 86_400
LEAST_SHARE_S = 10.0
"""Of work before each worker: it starts in real time, and has up to four photographs in hand, however short the day."""


@dataclass(frozen=True)
class Plan:
    """How long the day is (s), how many cases come per second at its peak, and how long the network takes for one."""

    day_s: float
    peak_per_s: float
    photograph_s: float
    seed: int = 1

    def rule(self) -> Rule:
        """Return the manifest's rule with its times shortened as the day is, for workers of this rate."""
        rule, faster = Rule.read(), REAL_DAY_S / self.day_s
        share_s = max(LEAST_SHARE_S, 60 * rule.clear_in_minutes / faster)
        times = {name: getattr(rule, name) / faster for name in ("poll_s", "cooldown_s", "stabilization_s")}
        return replace(rule, cases_per_worker=share_s / self.photograph_s, **times)


@dataclass(frozen=True)
class Look:
    """What the autoscaler saw and decided, `at_s` after midnight. `ready`: workers that take tasks already."""

    at_s: float
    backlog: int
    workers: int
    ready: int


@dataclass(frozen=True)
class Case:
    """A case's way: s from midnight to its submission and to its end."""

    submitted_s: float
    finished_s: float


@dataclass(frozen=True)
class Day:
    """All that a rehearsal found. `meters` are those of the day alone, `late_s` how far behind the curve was sent."""

    plan: Plan
    rule: Rule
    looks: Sequence[Look]
    cases: Sequence[Case]
    starts: int
    drains_s: Sequence[float]
    late_s: float
    meters: Meters


class Sending:
    """Hands photographs in as they become due, each from a thread of its own."""

    def __init__(self, plan: Plan, clients: Sequence[Client], photograph: Path):
        self._arrivals = draw_arrivals(plan.day_s, plan.peak_per_s, plan.seed)
        self._clients, self._photograph = clients, photograph
        self.answers: list[Future[float]] = []

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="clinic")
        self._began_s = time.monotonic()
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown()

    def go_on(self) -> float:
        """Hand in what is due, and return how late it is (s after midnight)."""
        now_s = time.monotonic() - self._began_s
        for number in range(len(self.answers), bisect_right(self._arrivals, now_s)):
            client = self._clients[number % len(self._clients)]
            self.answers.append(self._pool.submit(self._send, client, self._arrivals[number]))
        return now_s

    def is_done(self) -> bool:
        """Tell whether every photograph of the day was taken."""
        return len(self.answers) == len(self._arrivals) and all(answer.done() for answer in self.answers)

    def late_s(self) -> float:
        """Return how long after it was due a photograph was handed in, at the most. Raises what a sender met."""
        return max(answer.result() for answer in self.answers)

    def _send(self, client: Client, due_s: float) -> float:
        late_s = time.monotonic() - self._began_s - due_s
        client.submit(self._photograph)
        return late_s


def rehearse(plan: Plan, folder: Path, tell: Callable[[Look], None]) -> Day:
    """Run a day to its end, until no worker is left, and check that every accepted case has succeeded at once."""
    with running_system(folder) as system, _open(system) as database:
        before = read_meters(system, database)
        clients = _clinics(system, database)
        photograph = folder / "photograph.jpg"
        photograph.write_bytes(encode(lesion(96, 96), "JPEG"))
        with Fleet(system, plan.photograph_s, folder) as fleet, Sending(plan, clients, photograph) as sending:
            wall_s = time.time()
            looks = list(_follow(plan, database, fleet, sending, tell))
        cases = _read_cases(database, wall_s, len(sending.answers))
        spent = _difference(before, read_meters(system, database))
        for client in clients:
            client._http.close()
    return Day(plan, plan.rule(), looks, cases, fleet.started, fleet.drains_s, sending.late_s(), spent)


@contextmanager
def _open(system: System) -> Iterator[Database]:
    database = open_database(system.settings.database_url)
    yield database
    database.engine.dispose()


def _clinics(system: System, database: Database) -> Sequence[Client]:
    keys = [factories.add_key(database, Role.CLINIC, factories.add_clinic(database)) for _ in range(CLINICS)]
    return [Client(Connection(system.base_url, key)) for key in keys]


def _follow(
    plan: Plan, database: Database, fleet: Fleet, sending: Sending, tell: Callable[[Look], None]
) -> Iterator[Look]:
    """Look at the backlog and follow the rule until the day is over and the last worker has gone."""
    rule = plan.rule()
    scaler, look_s = Autoscaler(rule), 0.0
    while True:
        now_s = sending.go_on()
        if now_s >= look_s:
            look_s = now_s + max(LOOK_EVERY_S, rule.poll_s)
            done = sending.is_done()
            with database.reading() as session:
                backlog = session.scalar(text(rule.query))
            fleet.resize(scaler.decide(backlog, len(fleet), now_s))
            look = Look(now_s, backlog, len(fleet), fleet.count_ready())
            tell(look)
            yield look
            if now_s > plan.day_s and done and not (backlog or len(fleet)):
                return
        time.sleep(0.02)


def _read_cases(database: Database, wall_s: float, accepted: int) -> Sequence[Case]:
    columns = (CaseRow.submitted_at, CaseRow.finished_at, CaseRow.state, CaseRow.attempts)
    with database.reading() as session:
        rows = session.execute(select(*columns).order_by(CaseRow.submitted_at)).all()
    assert len(rows) == accepted
    fates = Counter((row.state, row.attempts) for row in rows)
    assert fates.keys() == {(State.SUCCEEDED, 1)}, fates
    return [Case(row.submitted_at.timestamp() - wall_s, row.finished_at.timestamp() - wall_s) for row in rows]


def _difference(before: Meters, after: Meters) -> Meters:
    cpu_s = {name: after.cpu_s[name] - before.cpu_s[name] for name in after.cpu_s}
    others = (getattr(after, name) - getattr(before, name) for name in ("sql_bytes", "wal_bytes", "commits"))
    return Meters(cpu_s, *others)
