"""The two Celery tasks. They carry no data: what is to be done stands in SQL."""

import logging
from collections.abc import Callable

from celery import Celery

from shared.dispatch import ANALYZE, SWEEP
from shared.errors import Unavailable
from worker.triage import Triage

log = logging.getLogger(__name__)


def register_tasks(celery: Celery, triage: Triage) -> None:
    """Make `analyze` and `sweep`. Either may run twice or not at all, so a message is acknowledged as it arrives."""

    @celery.task(name=ANALYZE)
    def analyze() -> None:
        """Take waiting cases through the analysis until none waits."""
        _unless_unavailable(triage.analyze_waiting)

    @celery.task(name=SWEEP)
    def sweep() -> None:
        """Mend what crashes and lost messages left behind."""
        _unless_unavailable(triage.sweep)


def _unless_unavailable(work: Callable[[], None]) -> None:
    # No Celery retry: the next sweep rings for whatever still waits.
    try:
        work()
    except Unavailable as error:
        log.warning("task_postponed task=%s code=%s", work.__name__, error.code)
