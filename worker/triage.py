"""Takes waiting cases through the analysis: claim, analyse, record, until nothing waits."""

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from shared.database import Database, read_clock
from shared.dispatch import Doorbell
from shared.domain import Lease, State
from shared.errors import Unavailable
from shared.log_ids import logged_with, request_of
from shared.settings import Settings
from shared.storage import ObjectStore
from shared.store import queue, trail, webhooks, worklist
from worker.analysis import Analyst, Finding, NoFinding, Outcome, Postponed, Reason, blame
from worker.counters import ANALYSIS_FAILED, BATCH, ENDED, LATE, RETRIES, UNAVAILABLE, count_sweep, stage
from worker.erasure import Erasure
from worker.heartbeat import Meter
from worker.watchdog import Watchdog

_SLICE_S = 5.0
"""A task gives up its thread after this long, so that the sweep gets its turn, and rings again for what waits."""

_POSTPONE_S, _POSTPONE_INACCESSIBLE_S, _POSTPONE_AT_MOST_S = 5.0, 60.0, 300.0
"""An inaccessible photograph is retried ever less often: many of them must not crowd out the others."""

_RECORD_AGAIN_S = 0.5
_RANK_AT_ONCE = 1000

log = logging.getLogger(__name__)


class Triage:
    """One worker process's analysis of cases, and its recovery of those that crashes left behind."""

    def __init__(
        self, database: Database, store: ObjectStore, doorbell: Doorbell, analyst: Analyst, settings: Settings
    ):
        self._database, self._store, self._doorbell = database, store, doorbell
        self._analyst, self._settings = analyst, settings
        self._seats = Seats(settings.worker_threads)
        self._watchdog = Watchdog(limit_s=settings.lease_s)
        self.meter = Meter()
        self.stopping = threading.Event()
        self._erasure = Erasure(database, store, settings.lease_s, self.stopping)

    @property
    def device_lost(self) -> bool:
        """Whether this process can no longer read any photograph and must end."""
        return self._analyst.device_lost

    def analyze_waiting(self) -> None:
        """Analyse batch after batch until nothing waits, the time slice is over, or the worker is told to stop.

        Stops after one batch if the store is unavailable or the device dead: the next sweep rings again.
        """
        until = time.monotonic() + _SLICE_S
        while time.monotonic() < until and not self.stopping.is_set():
            if not self._analyze_next_batch():
                return
        self._doorbell.ring()

    def sweep(self) -> None:
        """Recover from crashes and lost messages: expired leases, lost rings, unranked cases, unerased objects."""
        batch_size = self._settings.batch_size
        with self._database.writing() as session:
            now = read_clock(session)
            found = queue.sweep_leases(session, now)
            worklist.rank_unranked(session, _RANK_AT_ONCE)
            webhooks.announce(session, found.failed, now)
            trail.audit(session, trail.WORKER, "case.failed", found.failed, now)
            waiting = queue.count_waiting(session, now, at_most=batch_size * self._settings.worker_threads)
            waiting = waiting or queue.bring_forward(session, now, _POSTPONE_AT_MOST_S)
        _report(found)
        self._doorbell.ring(times=math.ceil(waiting / batch_size))
        self._erasure.erase_some()

    def _analyze_next_batch(self) -> bool:
        """Claim and finish one batch; return False if nothing waits, or nothing can be done for what waits.

        Seats are taken before the claim: a lease must not run while its holder waits for a seat, and if a case that is
        tried alone kills the process, no other case may be lost with it.
        """
        with self._seats.taken(everything=False):
            leases = self._claim(may_be_alone=False)
            if leases is not None:
                return self._finish(leases)
        with self._seats.taken(everything=True):
            return self._finish(self._claim(may_be_alone=True))

    def _finish(self, leases: Sequence[Lease]) -> bool:
        """Analyse a batch, which may be empty; return False if the next one would achieve nothing either.

        Photographs that are inaccessible say nothing about those that wait behind them.
        """
        if not leases:
            return False
        BATCH.observe(len(leases))
        with self._watchdog.watching(), self.meter.measuring(len(leases)):
            outcomes = self._analyze(leases)
            if self.device_lost:
                self.stopping.set()  # a dead device fails at once: it would claim all that others could analyse
            self._record_patiently(outcomes)
        away = any(outcome == Postponed(outcome.lease, Reason.STORE_UNAVAILABLE) for outcome in outcomes)
        return not self.device_lost and not (away and all(isinstance(outcome, Postponed) for outcome in outcomes))

    def _claim(self, may_be_alone: bool) -> Sequence[Lease] | None:
        """Recover expired leases (while every thread is busy, the sweep comes late) and claim the next batch.

        None, with nothing claimed, if the next case must be tried alone and `may_be_alone` is False.
        """
        if self.device_lost or self.stopping.is_set():  # while waiting for a seat
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
            # No error may take the process down: the attempt counts, and each case is retried alone.
            log.exception("analysis_failed cases=%s", [str(lease.case_id) for lease in leases])
            return [blame(lease) for lease in leases]

    def _record_patiently(self, outcomes: list[Outcome]) -> None:
        """Record, retrying for half a lease while the database is unavailable: the work is already done."""
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
        """Delete the overlays of late results: the case was cancelled, deleted, or given to another worker."""
        for outcome in refused:
            if isinstance(outcome, Finding):
                try:
                    self._store.delete(outcome.analysis.overlay_key)
                except Unavailable:
                    log.warning("late_overlay_left case_id=%s", outcome.lease.case_id)


def _end_leases(session: Session, outcomes: Sequence[Outcome], now: datetime) -> queue.Recorded:
    """Write the outcome of each case of a batch whose lease is still ours."""
    found = [(outcome.lease, outcome.analysis, outcome.maps) for outcome in outcomes if isinstance(outcome, Finding)]
    recorded, others = queue.record_analyses(session, found, now), set()
    for outcome in outcomes:
        match outcome:
            case NoFinding(lease, problem) if queue.record_problem(session, lease, problem, now):
                others.add(lease.case_id)
            case Postponed(lease, reason):
                pause_s = _POSTPONE_S
                if reason in (Reason.PHOTOGRAPH_REFUSED, Reason.PHOTOGRAPH_TIMED_OUT):
                    pause_s = min(max(_POSTPONE_INACCESSIBLE_S, outcome.lasted_s), _POSTPONE_AT_MOST_S)
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
    """Limits how many batches run concurrently; a case that must be tried alone takes every seat."""

    def __init__(self, count: int):
        self._count = count
        self._free = threading.Semaphore(count)
        self._turnstile = threading.Lock()

    @contextmanager
    def taken(self, everything: bool) -> Iterator[None]:
        """Hold one seat or all of them. The turnstile keeps two threads that want all from each holding half."""
        wanted = self._count if everything else 1
        with self._turnstile:
            for _ in range(wanted):
                self._free.acquire()
        try:
            yield
        finally:
            self._free.release(wanted)
