"""Takes waiting cases through the analysis: claim, analyse, record, until nothing waits."""

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import takewhile

from sqlalchemy.orm import Session

from shared.database import Database, read_clock
from shared.dispatch import Doorbell
from shared.domain import Lease, State
from shared.errors import ObjectRefused, Unavailable
from shared.log_ids import logged_with, request_of
from shared.settings import Settings
from shared.storage import ObjectStore
from shared.store import objects, queue, trail, webhooks, worklist
from worker.analysis import Analyst, Finding, NoFinding, Outcome, Postponed, Why, blame
from worker.counters import ANALYSIS_FAILED, BATCH, ENDED, LATE, RETRIES, UNAVAILABLE, count_sweep, stage
from worker.heartbeat import Meter
from worker.watchdog import Watchdog

_SLICE_S = 5.0
"""A task gives its thread back after so long, so that the sweeper's turn comes; what waits is rung for again."""

_POSTPONE_S, _POSTPONE_REFUSED_S = 5.0, 60.0
"""A photograph that the store refuses comes back more seldom: many of them must not take the others' turns."""

_RECORD_AGAIN_S = 0.5
_ERASE_AT_ONCE = 100
_ERASE_REFUSED_AGAIN_S, _ERASE_AGAIN_S = 600.0, 10.0
"""For so long, what could not be erased is passed over: it keeps no other waiting."""

_RANK_AT_ONCE = 1000

log = logging.getLogger(__name__)


class Triage:
    """One worker process's part in the flow of cases."""

    def __init__(
        self, database: Database, store: ObjectStore, doorbell: Doorbell, analyst: Analyst, settings: Settings
    ):
        self._database, self._store, self._doorbell = database, store, doorbell
        self._analyst, self._settings = analyst, settings
        self._seats = Seats(settings.worker_threads)
        self._watchdog = Watchdog(limit_s=settings.lease_s)
        self._erased_up_to: objects.DeletedCase | None = None
        self._erase_anew_at_s = 0.0
        self.meter = Meter()
        self.stopping = threading.Event()

    @property
    def device_lost(self) -> bool:
        """Whether this process can read no photograph any more and must end."""
        return self._analyst.device_lost

    def analyze_waiting(self) -> None:
        """Analyse batch after batch until nothing waits, the slice of time is up, or the worker is told to stop.

        While the store is away, or a device dead, one batch is enough to know it: the next sweep rings again.
        """
        until = time.monotonic() + _SLICE_S
        while time.monotonic() < until and not self.stopping.is_set():
            if not self._analyze_next_batch():
                return
        self._doorbell.ring()

    def sweep(self) -> None:
        """Mend what crashes and lost messages left behind: expired leases, unrung, unranked cases, unerased objects."""
        batch_size = self._settings.batch_size
        with self._database.writing() as session:
            now = read_clock(session)
            found = queue.sweep_leases(session, now)
            worklist.rank_unranked(session, _RANK_AT_ONCE)
            webhooks.announce(session, found.failed, now)
            trail.audit(session, trail.WORKER, "case.failed", found.failed, now)
            waiting = queue.count_waiting(session, now, at_most=batch_size * self._settings.worker_threads)
        _report(found)
        self._doorbell.ring(times=math.ceil(waiting / batch_size))
        self._erase_deleted()

    def _analyze_next_batch(self) -> bool:
        """Claim and finish one batch; return False if nothing waits, or nothing can be done for what waits.

        Seats are taken before the claim: a lease must not run while its holder waits for one, and no other case may be
        lost with the process when the one that is tried alone ends it.
        """
        with self._seats.taken(everything=False):
            leases = self._claim(may_be_alone=False)
            if leases is not None:
                return self._finish(leases)
        with self._seats.taken(everything=True):
            return self._finish(self._claim(may_be_alone=True))

    def _finish(self, leases: Sequence[Lease]) -> bool:
        """Analyse a batch, which may be empty; return False if the next one would come to nothing too.

        Photographs that the store refuses say nothing of those that wait behind them.
        """
        if not leases:
            return False
        BATCH.observe(len(leases))
        with self._watchdog.watching(), self.meter.measuring(len(leases)):
            outcomes = self._analyze(leases)
            if self.device_lost:
                self.stopping.set()  # a photograph costs a dead device no time: it would claim all that others could do
            self._record_patiently(outcomes)
        away = any(outcome == Postponed(outcome.lease, Why.STORE_AWAY) for outcome in outcomes)
        return not self.device_lost and not (away and all(isinstance(outcome, Postponed) for outcome in outcomes))

    def _claim(self, may_be_alone: bool) -> Sequence[Lease] | None:
        """Mend expired leases and claim the next batch: while every thread is busy, the sweeper's turn comes late.

        None: it is the turn of a case that must be tried alone, and this must not be one. Nothing was claimed.
        """
        if self.device_lost:  # while a seat was waited for
            return []
        with stage("claim") as claimed, self._database.writing() as session:
            now = read_clock(session)
            found = queue.sweep_leases(session, now)
            leases = queue.claim_cases(session, self._settings.batch_size, self._settings.lease_s, now)
            if leases and leases[0].alone and not may_be_alone:
                session.rollback()
                return None
            claimed += leases
            webhooks.announce(session, found.failed, now)
            trail.audit(session, trail.WORKER, "case.failed", found.failed, now)
        _report(found)
        return leases

    def _analyze(self, leases: Sequence[Lease]) -> list[Outcome]:
        try:
            return self._analyst.analyze_batch(leases)
        except Exception:
            # Whatever it was must not take the process along: the cases are counted, tried alone, and end with a human.
            log.exception("analysis_failed cases=%s", [str(lease.case_id) for lease in leases])
            return [blame(lease) for lease in leases]

    def _record_patiently(self, outcomes: list[Outcome]) -> None:
        """Record, trying again while the database is away and the leases last: the work is done already."""
        until = time.monotonic() + self._settings.lease_s / 2
        while True:
            try:
                return self._record(outcomes)
            except Unavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(_RECORD_AGAIN_S)

    def _record(self, outcomes: list[Outcome]) -> None:
        with stage("record", [outcome.lease for outcome in outcomes]), self._database.writing() as session:
            now = read_clock(session)
            settled = _end_leases(session, outcomes, now)
            ended = defaultdict(list)
            for outcome in outcomes:
                if outcome.lease.case_id in settled.written and not isinstance(outcome, Postponed):
                    state = State.SUCCEEDED if isinstance(outcome, Finding) else outcome.problem.state
                    ended[state].append(outcome.lease.case_id)
            webhooks.announce(session, [case_id for case_ids in ended.values() for case_id in case_ids], now)
            for state, case_ids in ended.items():
                trail.audit(session, trail.WORKER, f"case.{state}", case_ids, now)
        done = settled.written | settled.standing
        refused = [outcome for outcome in outcomes if outcome.lease.case_id not in done]
        for outcome in outcomes:
            _report_outcome(outcome, was_refused=outcome in refused)
        self._discard(refused)

    def _discard(self, refused: list[Outcome]) -> None:
        """Drop results that came too late: the case was cancelled, deleted, or given to another worker."""
        for outcome in refused:
            if isinstance(outcome, Finding):
                try:
                    self._store.delete(outcome.analysis.overlay_key)
                except Unavailable:
                    log.warning("late_overlay_left case_id=%s", outcome.lease.case_id)

    def _erase_deleted(self) -> None:
        """Erase what comes after the last one that was tried, so that none that cannot be erased stops the others."""
        now_s = time.monotonic()
        if now_s >= self._erase_anew_at_s:
            self._erased_up_to, self._erase_anew_at_s = None, now_s + _ERASE_REFUSED_AGAIN_S
        with self._database.reading() as session:
            # One lease later, no worker can still be storing an overlay of a case that was deleted under its hands.
            deleted_before = read_clock(session) - timedelta(seconds=self._settings.lease_s)
            to_erase = objects.list_to_erase(session, deleted_before, _ERASE_AT_ONCE, self._erased_up_to)
        for deleted in takewhile(lambda _: not self.stopping.is_set(), to_erase):
            self._erased_up_to = deleted
            try:
                self._store.erase_case(deleted.clinic_id, deleted.case_id)
            except ObjectRefused as error:
                log.warning("erasure_refused case_id=%s reason=%s", deleted.case_id, error.__cause__)
                continue
            except Unavailable:
                self._erase_anew_at_s = min(self._erase_anew_at_s, now_s + _ERASE_AGAIN_S)
                return
            with self._database.writing() as session:
                objects.mark_erased(session, deleted.case_id, read_clock(session))


def _end_leases(session: Session, outcomes: Sequence[Outcome], now: datetime) -> queue.Recorded:
    """Write what became of each case of a batch whose lease is still ours."""
    found = [(outcome.lease, outcome.analysis, outcome.maps) for outcome in outcomes if isinstance(outcome, Finding)]
    recorded, others = queue.record_analyses(session, found, now), set()
    for outcome in outcomes:
        match outcome:
            case NoFinding(lease, problem) if queue.record_problem(session, lease, problem, now):
                others.add(lease.case_id)
            case Postponed(lease, why):
                pause_s = _POSTPONE_REFUSED_S if why is Why.PHOTOGRAPH_REFUSED else _POSTPONE_S
                later = now + timedelta(seconds=pause_s)
                if queue.return_case(session, lease, later, alone=outcome.alone, counted=outcome.counted):
                    others.add(lease.case_id)
    return queue.Recorded(recorded.written | others, recorded.standing)


def _report_outcome(outcome: Outcome, was_refused: bool) -> None:
    lease = outcome.lease
    with logged_with(case_id=lease.case_id, request_id=request_of(lease.traceparent)):
        match outcome:
            case _ if was_refused:
                LATE.inc()
                log.warning("late_result_refused")
            case Finding():
                ENDED.labels(State.SUCCEEDED, "").inc()
                log.info("case_ended state=%s", State.SUCCEEDED)
            case NoFinding(_, problem):
                ENDED.labels(problem.state, problem.code).inc()
                log.info("case_ended state=%s code=%s", problem.state, problem.code)
            case Postponed():
                reason = ANALYSIS_FAILED if outcome.counted else UNAVAILABLE
                RETRIES.labels(reason).inc()
                log.info("case_postponed reason=%s", reason)


def _report(found: queue.Sweep) -> None:
    count_sweep(found)
    if found.returned or found.failed:
        log.warning("leases_expired returned=%d failed=%d", found.returned, len(found.failed))


class Seats:
    """How many batches run side by side; a case that must be tried alone takes every seat."""

    def __init__(self, count: int):
        self._count = count
        self._free = threading.Semaphore(count)
        self._turnstile = threading.Lock()

    @contextmanager
    def taken(self, everything: bool) -> Iterator[None]:
        """Hold one seat or all of them. The turnstile keeps two who want all from each holding half."""
        wanted = self._count if everything else 1
        with self._turnstile:
            for _ in range(wanted):
                self._free.acquire()
        try:
            yield
        finally:
            self._free.release(wanted)
