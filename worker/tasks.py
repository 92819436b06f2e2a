"""The Celery tasks. They carry no data: what is to be done stands in SQL."""

import logging
from collections.abc import Callable

from celery import Celery
from celery.worker import state

from shared.dispatch import ANALYZE, DELIVER, PURGE, SWEEP
from shared.errors import Unavailable
from worker.housekeeping import Housekeeping
from worker.triage import Triage
from worker.webhooks import Courier

EXIT_DEVICE_LOST = 71

log = logging.getLogger(__name__)


def register_tasks(celery: Celery, triage: Triage, housekeeping: Housekeeping, courier: Courier) -> None:
    """Make the tasks. Each may run twice or not at all, so a message is acknowledged as it arrives."""

    @celery.task(name=ANALYZE)
    def analyze() -> None:
        """Take waiting cases through the analysis until none waits."""
        _unless_unavailable(triage.analyze_waiting)
        if triage.device_lost:
            state.should_stop = EXIT_DEVICE_LOST  # Celery ends the process, and a supervisor starts it anew

    @celery.task(name=SWEEP)
    def sweep() -> None:
        """Mend what crashes and lost messages left behind."""
        _unless_unavailable(triage.sweep)

    @celery.task(name=PURGE)
    def purge() -> None:
        """Remove what is kept no longer."""
        _unless_unavailable(housekeeping.purge)

    @celery.task(name=DELIVER)
    def deliver() -> None:
        """Tell webhooks what they wait for."""
        _unless_unavailable(courier.deliver_due)


def _unless_unavailable(work: Callable[[], None]) -> None:
    # No Celery retry: the next sweep rings for whatever still waits.
    try:
        work()
    except Unavailable as error:
        log.warning("task_postponed task=%s code=%s", work.__name__, error.code)
