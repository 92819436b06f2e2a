"""The Celery tasks. They carry no data: what there is to do is in SQL."""

import logging
from collections.abc import Callable

from celery import Celery, Task
from celery.worker import state

from shared.dispatch import ANALYZE, DELIVER, PURGE, SWEEP
from shared.errors import Unavailable
from worker.housekeeping import Housekeeping
from worker.triage import Triage
from worker.webhooks import Courier

EXIT_DEVICE_LOST = 71
_PURGE_AGAIN_S = 300.0

log = logging.getLogger(__name__)


def register_tasks(celery: Celery, triage: Triage, housekeeping: Housekeeping, courier: Courier) -> None:
    """Register the tasks. Each may run twice or not at all, so a message is acknowledged on receipt."""

    @celery.task(name=ANALYZE)
    def analyze() -> None:
        """Analyse waiting cases until none waits or the time slice is over."""
        _unless_unavailable(triage.analyze_waiting)
        if triage.device_lost:
            state.should_stop = EXIT_DEVICE_LOST  # Celery ends the process, and a supervisor restarts it

    @celery.task(name=SWEEP)
    def sweep() -> None:
        """Recover from crashes and lost messages."""
        _unless_unavailable(triage.sweep)

    @celery.task(name=PURGE, bind=True, max_retries=None)
    def purge(task: Task) -> None:
        """Remove what need no longer be kept, and try again until that is complete or the day's message expires."""
        if not _unless_unavailable(housekeeping.purge):
            raise task.retry(countdown=_PURGE_AGAIN_S)

    @celery.task(name=DELIVER)
    def deliver() -> None:
        """Send the webhook messages that are due."""
        _unless_unavailable(courier.deliver_due)


def _unless_unavailable(work: Callable[[], bool | None]) -> bool | None:
    # Celery retries the purge alone: for whatever else still waits, the next sweep rings.
    try:
        return work()
    except Unavailable as error:
        log.warning("task_postponed task=%s code=%s", work.__name__, error.code)
        return None
