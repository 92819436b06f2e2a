"""Records in the audit trail who has seen which results."""

from collections.abc import Sequence

from api.services import services
from shared.database import read_clock
from shared.domain import Caller, Case
from shared.store import trail


def note_reads(shown: Sequence[Case], reader: Caller) -> None:
    """Audit which results this key has seen, each once: polling would otherwise flood the trail."""
    results = services().reads.unknown(reader, [case.id for case in shown if case.analysis])
    if not results:
        return
    with services().database.looking() as connection:
        unread = trail.find_unread(connection, reader, results)
    if unread:
        with services().database.writing() as session:
            trail.audit(session, reader, trail.CASE_READ, unread, read_clock(session))
    services().reads.note(reader, results)
