"""What one process knows of the reads that are on record."""

from uuid import uuid4

from api.reads import KnownReads
from tests.factories import clinic_caller

FIRST, SECOND, THIRD = uuid4(), uuid4(), uuid4()


def test_a_read_is_known_of_the_key_that_has_read_and_of_no_other_of_its_clinic():
    reads, clinic_id = KnownReads(), uuid4()
    reader, colleague = clinic_caller(clinic_id), clinic_caller(clinic_id)
    reads.note(reader, [FIRST])
    assert reads.unknown(reader, [FIRST, SECOND]) == [SECOND]
    assert reads.unknown(colleague, [FIRST]) == [FIRST]


def test_no_more_is_remembered_than_there_is_room_for_and_what_came_last_is():
    reads, reader = KnownReads(remembered=2), clinic_caller(uuid4())
    for case_id in (FIRST, SECOND, THIRD):
        reads.note(reader, [case_id])
    assert reads.unknown(reader, [FIRST, SECOND, THIRD]) == [FIRST, SECOND]
