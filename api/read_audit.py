"""Records in the audit trail who has seen which results."""

from collections.abc import Sequence
from uuid import UUID

from shared.database import Database, read_clock
from shared.domain import Caller, Case
from shared.store import trail

_REMEMBERED = 50_000


class ReadAudit:
    """Audits which results each key has seen, each once: polling would otherwise flood the trail.

    What is on record is remembered, which spares polling clients a query: entries never go away.
    """

    def __init__(self, database: Database, remembered: int = _REMEMBERED):
        self._database, self._remembered = database, remembered
        self._known: dict[tuple[UUID, UUID], None] = {}

    def note(self, shown: Sequence[Case], reader: Caller) -> None:
        """Audit those results among the cases that this key has not seen before."""
        with_result = [case.id for case in shown if case.analysis]
        results = [case_id for case_id in with_result if (reader.key_id, case_id) not in self._known]
        if not results:
            return
        with self._database.autocommitting() as connection:
            unread = trail.find_unread(connection, reader, results)
        if unread:
            with self._database.writing() as session:
                trail.audit(session, reader, trail.CASE_READ, unread, read_clock(session))
        self._remember(reader, results)

    def _remember(self, reader: Caller, case_ids: Sequence[UUID]) -> None:
        if len(self._known) + len(case_ids) > self._remembered:
            self._known = {}
        self._known.update(dict.fromkeys((reader.key_id, case_id) for case_id in case_ids))
