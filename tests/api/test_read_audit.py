"""Which reads one process records, and remembers."""

from types import SimpleNamespace
from uuid import uuid4

from api.read_audit import ReadAudit
from shared.store import trail
from tests.factories import clinic_caller

FIRST, SECOND, THIRD = (SimpleNamespace(id=uuid4(), analysis="a result") for _ in range(3))
WITHOUT_RESULT = SimpleNamespace(id=uuid4(), analysis=None)


def recorded(database) -> list[tuple]:
    with database.reading() as session:
        return [(entry.key_id, entry.case_id) for entry in trail.list_entries(session, None, before=None, limit=99)]


def test_each_key_of_a_clinic_is_recorded_once_for_each_result_that_it_has_seen(database):
    reads, clinic_id = ReadAudit(database), uuid4()
    reader, colleague = clinic_caller(clinic_id), clinic_caller(clinic_id)
    for shown, caller in (([FIRST], reader), ([FIRST, WITHOUT_RESULT, SECOND], reader), ([FIRST], colleague)):
        reads.note(shown, caller)
        ReadAudit(database).note(shown, caller)  # another process, which remembers nothing of it
    assert recorded(database) == [(colleague.key_id, FIRST.id), (reader.key_id, SECOND.id), (reader.key_id, FIRST.id)]


def test_what_is_known_to_be_on_record_takes_no_query(database):
    reads, reader = ReadAudit(database), clinic_caller(uuid4())
    reads.note([FIRST], reader)
    reads._database = None
    reads.note([FIRST], reader)


def test_no_more_is_remembered_than_there_is_room_for_and_what_came_last_is(database):
    reads, reader = ReadAudit(database, remembered=2), clinic_caller(uuid4())
    for case in (FIRST, SECOND, THIRD):
        reads.note([case], reader)
    assert list(reads._known) == [(reader.key_id, THIRD.id)]
