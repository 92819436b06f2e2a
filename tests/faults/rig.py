"""The whole system in real processes, the means to break it, and the audit of what it promised."""

import os
import secrets
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from redis import Redis
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from deploy.client import Connection
from deploy.embedded.program import Program, find_free_port
from deploy.embedded.valkey import valkey_program, valkey_url
from deploy.stack import own_programs
from shared.database import open_database
from shared.domain import Role, State
from shared.settings import STACK_ENV, Settings
from shared.storage import open_object_store
from shared.tables import CaseRow
from tests import factories
from tests.faults.audit import Outcome, Recovery, Trace, audit, read_traces
from tests.faults.keeper import Keeper
from tests.faults.load import PHOTOGRAPHS, Clinic, Load
from tests.faults.sizes import BATCH_SIZE, LEASE_S
from tests.journey.stack import RunningStack
from tests.servers.postgres import SURVIVES_A_KILL, postgres_program, postgres_url
from tests.waiting import halt, is_running, wait_until

CLINICS = 4
POLL_S = 0.2
PAUSE_PER_QUESTION = 9
"""A query about 10,000 cases takes a second of processor time: the pause is this many times as long as the query."""
READY = {"worker": "celery.apps.worker celery@", "beat": "beat: Starting"}
"""The log lines that show readiness of programs that no supervisor can ask."""
HASTY = {"DERMQUEUE_LEASE_S": str(LEASE_S), "DERMQUEUE_BATCH_SIZE": str(BATCH_SIZE)}
"""Settings of a system that is to be broken: it should react soon."""


OUTAGES = {"api_unreachable", "database_unavailable", "intake_busy", "storage_unavailable"}


class Rig:
    """One flavour of the system: `dermqueue up`, and the servers beside it that it is only told by URL.

    Programs go by their supervisors' names: api, worker, beat, seaweed, valkey and, where there is one, postgres.
    """

    def __init__(self, flavour: str, stack: RunningStack, servers: Keeper, outcomes: list[Outcome]):
        self.flavour, self.stack = flavour, stack
        self._keepers, self._outcomes = [servers], outcomes
        self._killed: dict[str, int] = {}
        given = {name.removeprefix("DERMQUEUE_").lower(): value for name, value in stack.variables.items()}
        self.settings = Settings(_env_file=stack.data_dir / STACK_ENV, **given)
        self.database, self.store = open_database(self.settings.database_url), open_object_store(self.settings)
        self.broker = Redis.from_url(self.settings.broker_url)

    def close(self) -> None:
        self.broker.close()
        self.store._client.close()
        self.database.engine.dispose()

    def await_ready(self, *names: str) -> None:
        """Wait until programs were ready for the first time."""
        self._await_ready_again(dict.fromkeys(names, 0))

    def kill(self, name: str) -> datetime:
        """`kill -9` a program as soon as it runs, and return when that was; its supervisor restarts it."""
        self._killed[name] = self._times_ready(name)
        wait_until(lambda: self._send_signal(name, signal.SIGKILL), timeout_s=30)
        return datetime.now(UTC)

    def pid(self, name: str) -> int:
        """Return the id of the process that was started last under this name."""
        return self._keeper_of(name).pid(name)

    def log_of(self, name: str) -> str:
        """Return a program's log so far."""
        log = self.stack.data_dir / "logs" / f"{name}.log"
        return log.read_text(errors="replace") if log.exists() else ""

    @contextmanager
    def away(self, *names: str, how: signal.Signals = signal.SIGKILL) -> Iterator[None]:
        """End programs of one supervisor, restart none inside the block, and then wait until each is back."""
        keeper = self._keeper_of(names[0])
        before = {name: self._times_ready(name) for name in names}
        with keeper.holding():
            for name in names:
                pid = keeper.pid(name)
                os.kill(pid, how)
                wait_until(lambda pid=pid: not is_running(pid), timeout_s=60)
            yield
        self._await_ready_again(before)

    @contextmanager
    def frozen(self, name: str, when: Callable[[], object] = lambda: True) -> Iterator[None]:
        """Freeze a program inside the block, at a moment when it holds no lock in the database."""
        wait_until(lambda: self._freeze(name, when), timeout_s=60)
        try:
            yield
        finally:
            self._send_signal(name, signal.SIGCONT)

    def further(self, name: str, *launcher: str, **variables: str) -> Program:
        """Return one more process of this system: `dermqueue api`, `worker` or `beat`, or `launcher` in its place.

        The last word of its name is the command.
        """
        command = name.split()[-1]
        usual = next(p for p in own_programs(self.stack.data_dir, find_free_port()) if p.name == command)
        run_by = launcher or usual.argv[1:2]
        return replace(
            usual,
            name=name,
            argv=(sys.executable, *run_by, *usual.argv[2:]),
            env={**self.stack.environment, **variables},
            stop_signal=signal.SIGKILL,
        )

    @contextmanager
    def beside(self, *programs: Program) -> Iterator[Keeper]:
        """Run further processes inside the block, under a supervisor of their own, once all are ready."""
        keeper = Keeper(self.stack.data_dir, programs)
        self._keepers.append(keeper)
        before = {program.name: self._times_ready(program.name) for program in programs}
        try:
            with keeper:
                self._await_ready_again(before)
                yield keeper
        finally:
            self._keepers.remove(keeper)

    def submitting(
        self,
        count: int,
        photographs: Sequence[Path] = PHOTOGRAPHS,
        urls: Sequence[str] = (),
        *,
        clinics: int = CLINICS,
        connections: int = 2 * CLINICS,
    ) -> Load:
        """Return the load of new clinics that submit photographs, each clinic to the next of the `urls`."""
        urls = urls or [self.stack.connection["base_url"]]
        senders = []
        for number in range(clinics):
            clinic_id = factories.add_clinic(self.database)
            key = factories.add_key(self.database, Role.CLINIC, clinic_id)
            senders.append(Clinic(clinic_id, Connection(urls[number % len(urls)], key)))
        return Load(senders, count, photographs, connections)

    def in_hand(self) -> list[str]:
        """Return the cases that some worker holds right now."""
        with self.database.reading() as session:
            return [str(found) for found in session.scalars(select(CaseRow.id).where(CaseRow.state == State.RUNNING))]

    def await_work(self, at_least: int = 1) -> None:
        """Wait until workers hold at least this many cases."""
        wait_until(lambda: len(self.in_hand()) >= at_least, timeout_s=60)

    def observe(self, load: Load) -> Sequence[Trace]:
        """Read the load's rows and note how each ended so far."""
        traces = read_traces(self.database, load)
        for trace in traces:
            if trace.state.is_final:
                load.endings.setdefault(trace.id, set()).add(trace.ending)
        return traces

    def await_ends(self, load: Load, wanted: int, among: Sequence[str] | None = None) -> None:
        """Wait until this many of the load's cases, or of the given ones, have ended."""

        def count() -> int:
            return sum(t.state.is_final and (among is None or t.id in among) for t in self.observe(load))

        assert self._poll(lambda: count() >= wanted, timeout_s=300)

    def settle(
        self, load: Load, fault: str, *, times: int = 1, recovery: Recovery = lambda _: None, timeout_s: float = 120
    ) -> Outcome:
        """Wait for the end of every case and for what was killed, audit, and add a line to the table.

        Fails if a case was lost, duplicated or stuck, or if a patient clinic was refused for any reason but an outage.
        """
        self._poll(lambda: all(trace.state.is_final for trace in self.observe(load)), timeout_s)
        traces = self.observe(load)
        self._await_ready_again(self._killed)
        self._killed.clear()
        outcome = Outcome(
            fault, self.flavour, times, recovery_s=recovery(traces), **audit(load, traces, self._list_keys(load))
        )
        self._outcomes.append(outcome)
        assert set(load.refused.values()) <= OUTAGES, load.refused
        assert (outcome.lost, outcome.duplicated, outcome.stuck) == (0, 0, 0), outcome
        return outcome

    def _poll(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Poll sparingly, to leave the machine to the system, and tell whether the condition held in time."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            asked_s = time.monotonic()
            if condition():
                return True
            now_s = time.monotonic()
            if now_s > deadline_s:
                return False
            time.sleep(max(POLL_S, PAUSE_PER_QUESTION * (now_s - asked_s)))

    def _list_keys(self, load: Load) -> set[str]:
        pages = self.store._client.get_paginator("list_objects_v2")
        return {
            found["Key"]
            for clinic in load.clinics
            for page in pages.paginate(Bucket=self.settings.s3_bucket, Prefix=f"{clinic.id}/")
            for found in page.get("Contents", [])
        }

    def _freeze(self, name: str, when: Callable[[], object]) -> bool:
        try:
            halt(self.pid(name))
        except ProcessLookupError:  # it has ended, and its supervisor has not started the next one yet
            return False
        if self._holds_no_lock() and when():
            return True
        self._send_signal(name, signal.SIGCONT)
        return False

    def _holds_no_lock(self) -> bool:
        """Tell whether every case can be locked at once: a frozen program keeps its locks until it is thawed."""
        if self.flavour == "embedded":
            with closing(sqlite3.connect(self.database.engine.url.database, timeout=0.3)) as connection:
                return _succeeds(lambda: connection.execute("BEGIN IMMEDIATE"), sqlite3.OperationalError)
        lock = select(CaseRow.id).with_for_update(nowait=True)
        with self.database.engine.connect() as connection:
            return _succeeds(lambda: connection.execute(lock), OperationalError)

    def _await_ready_again(self, before: Mapping[str, int]) -> None:
        wait_until(lambda: all(self._times_ready(name) > times for name, times in before.items()), timeout_s=90)

    def _times_ready(self, name: str) -> int:
        if sign := READY.get(name.split()[-1]):
            return self.log_of(name).count(sign)
        return self._keeper_of(name).count(name, "ready")

    def _keeper_of(self, name: str) -> RunningStack | Keeper:
        return next((keeper for keeper in self._keepers if keeper.keeps(name)), self.stack)

    def _send_signal(self, name: str, number: signal.Signals) -> bool:
        try:
            os.kill(self.pid(name), number)
        except ProcessLookupError:
            return False
        return True


@contextmanager
def running_rig(
    flavour: str,
    folder: Path,
    outcomes: list[Outcome],
    variables: Mapping[str, str] = HASTY,
    postgres_options: tuple[str, ...] = SURVIVES_A_KILL,
) -> Iterator[Rig]:
    """Run the system on SQLite and its own broker, or on a PostgreSQL and a broker that it is only told by URL."""
    with ExitStack() as resources:
        programs, urls = [], {}
        if flavour == "postgresql":
            programs, sql_port, urls["DERMQUEUE_BROKER_URL"] = servers_of_its_own(folder, postgres_options)
            urls["DERMQUEUE_DATABASE_URL"] = postgres_url(sql_port)
        yield put_together(resources, flavour, folder, programs, {**variables, **urls}, outcomes)


def servers_of_its_own(
    folder: Path, postgres_options: tuple[str, ...] = SURVIVES_A_KILL
) -> tuple[list[Program], int, str]:
    """Return PostgreSQL and a broker that a stack is told of by URL: both, PostgreSQL's port and the broker's URL."""
    sql_port, broker_port, password = find_free_port(), find_free_port(), secrets.token_urlsafe(16)
    programs = [postgres_program(folder, sql_port, postgres_options), valkey_program(folder, broker_port, password)]
    return programs, sql_port, valkey_url(broker_port, password)


def put_together(
    resources: ExitStack,
    flavour: str,
    folder: Path,
    programs: Sequence[Program],
    variables: Mapping[str, str],
    outcomes: list[Outcome],
) -> Rig:
    """Start the servers and a stack that these variables lead to them; `resources` stop both."""
    servers = resources.enter_context(Keeper(folder, programs))
    stack = RunningStack(folder / "stack", variables)
    resources.callback(stack.stop)
    running = Rig(flavour, stack, servers, outcomes)
    resources.callback(running.close)
    running.await_ready("worker", "beat")
    return running


def _succeeds(attempt: Callable[[], object], but_for: type[Exception]) -> bool:
    try:
        attempt()
    except but_for:
        return False
    return True
