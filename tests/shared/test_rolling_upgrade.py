"""The previous version and this one on one database, while the processes of one replace those of the other."""

import hashlib
import json
from uuid import UUID, uuid4

import pytest
from alembic import command
from sqlalchemy import text

from shared.database import Database
from shared.domain import CLASSES, Caller, Role, State
from shared.errors import ConfigurationInvalid
from shared.migrations import _config, check_upgraded, find_drift, read_migration, upgrade
from shared.store import access, cases, trail
from tests.factories import clinic_caller
from tests.shared.steps import MAPS, POINT, at, claim, record

MOMENT = "2026-03-01 00:00:00+00:00"
ADMIN = Caller(uuid4(), Role.ADMIN, None)
MODEL = "d" * 64
PHOTOGRAPH = {"media_type": "image/jpeg", "width": 640, "height": 480, "size_bytes": 1000, "sha256": "e" * 64}


class PreviousVersion:
    """Writes rows as the code of migration 0001 did: with the columns that it knew, and no other."""

    def __init__(self, database: Database):
        self.database, self.clinic_id, self.key = database, uuid4(), f"dq_{uuid4().hex[:12]}_secret"

    def write(self, table: str, **row) -> None:
        row = {name: value.hex if isinstance(value, UUID) else value for name, value in row.items()}
        names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
        with self.database.writing() as session:
            session.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row)

    def add_clinic_with_key(self) -> None:
        digest = hashlib.sha256(b"secret").hexdigest()
        self.write("clinics", id=self.clinic_id, name=f"Clinic {self.clinic_id}", created_at=MOMENT)
        names = {"prefix": self.key.split("_")[1], "secret_sha256": digest, "role": "clinic"}
        self.write("api_keys", id=uuid4(), clinic_id=self.clinic_id, created_at=MOMENT, revoked_at=None, **names)

    def add_model(self) -> None:
        manifest = json.dumps({"name": "made-up", "version": "1.0"})
        self.write("models", digest=MODEL, manifest=manifest, card="# Card", activated_at=MOMENT)

    def submit(self, state: str = "queued") -> UUID:
        case_id, finished_at = uuid4(), None if state == "queued" else MOMENT
        queue = {"priority": "routine", "urgency": 1, "turn": 0, "attempts": 0, "alone": False, "version": 1}
        of_patient = {"reference": "A-17", "age": 61, "sex": "female", "site": "back"}
        moments = {"submitted_at": MOMENT, "available_at": MOMENT, "finished_at": finished_at}
        absent = ("deleted_at", "erased_at", "lease_token", "lease_expires_at", "error_code", "error_detail")
        keys = {"photograph_key": f"{self.clinic_id}/{case_id}/x.jpg", "idempotency_key": None, "request_sha256": ""}
        values = queue | of_patient | moments | dict.fromkeys(absent) | keys | PHOTOGRAPH
        self.write("cases", id=case_id, clinic_id=self.clinic_id, state=state, **values)
        self.audit("case.submitted", case_id)
        return case_id

    def succeed(self) -> UUID:
        case_id = self.submit("succeeded")
        probabilities = dict(zip(CLASSES, (0.7, 0.2, 0.1), strict=True))
        versions = {"model_digest": MODEL, "preprocessing": "x", "code_version": "0.1.0", "warnings": "[]"}
        maps = {"activation_maps": MAPS.values, "map_height": 1, "map_width": 1, "overlay_key": "x"}
        point = POINT.model_dump_json()
        self.write(
            "analyses", case_id=case_id, decision="refer", operating_point=point, **probabilities, **versions, **maps
        )
        return case_id

    def audit(self, action: str, case_id: UUID) -> None:
        who = {"key_id": uuid4(), "role": "clinic", "clinic_id": self.clinic_id}
        self.write("audit_events", at=MOMENT, action=action, case_id=case_id, **who)


@pytest.fixture
def before(database) -> PreviousVersion:
    return PreviousVersion(database)


def go_back_to_0001(database: Database) -> None:
    with database.writer.begin() as connection:
        command.downgrade(_config(connection), "0001")


def set_migration(database: Database, number: str) -> None:
    with database.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :number"), {"number": number})


def check_that_this_version_can_work(before: PreviousVersion, waiting: UUID, done: UUID) -> None:
    """Authenticate, read, analyse, delete and audit what the previous version has written."""
    database, clinic = before.database, clinic_caller(before.clinic_id)
    with database.reading() as session:
        assert access.authenticate(session, before.key).clinic_id == before.clinic_id
        assert access.read_waiting_limit(session, before.clinic_id) is None
        assert {case.id for case in cases.list_cases(session, clinic, cases.CaseFilter(), 9)} == {waiting, done}
        read = cases.read_case(session, clinic, done)
        assert (read.state, read.reference, read.model_name) == (State.SUCCEEDED, "A-17", "made-up")
        assert read.analysis.probabilities == (0.7, 0.2, 0.1)
    (lease,) = claim(database)
    assert (lease.case_id, record(database, lease)) == (waiting, True)
    with database.writing() as session:
        cases.delete_case(session, clinic, done, at(9))
        trail.audit(session, ADMIN, "case.deleted", [done], at(9))
    with database.reading() as session:
        entries = [(row.action, row.case_id) for row in trail.list_entries(session, None, None, 9)]
        assert entries == [("case.deleted", done), ("case.submitted", done), ("case.submitted", waiting)]
        assert trail.verify_trail(session).faults == []


def test_what_the_previous_version_wrote_is_kept_by_the_upgrade_and_can_be_worked_with(database, before):
    go_back_to_0001(database)
    before.add_clinic_with_key()
    before.add_model()
    waiting, done = before.submit(), before.succeed()
    upgrade(database)
    assert find_drift(database) == []
    check_that_this_version_can_work(before, waiting, done)


def test_after_the_upgrade_the_previous_version_can_still_write(database, before):
    before.add_clinic_with_key()
    before.add_model()
    waiting, done = before.submit(), before.succeed()
    check_that_this_version_can_work(before, waiting, done)
    before.audit("case.cancelled", waiting)
    before.audit("case.deleted", waiting)
    with database.writing() as session:
        trail.audit(session, ADMIN, "case.requeued", [done], at(10))
    with database.reading() as session:
        report = trail.verify_trail(session)
    assert (report.entries, report.faults) == (6, [])


def test_downgrading_keeps_what_the_previous_version_knows(database, before):
    before.add_clinic_with_key()
    before.add_model()
    waiting, done = before.submit(), before.succeed()
    with database.writing() as session:
        access.set_limits(session, before.clinic_id, waiting_limit=5, retention_days=30)
    go_back_to_0001(database)
    upgrade(database)
    check_that_this_version_can_work(before, waiting, done)


@pytest.mark.parametrize("number", ["0010", "0011", "1000"])
def test_a_process_starts_on_a_database_that_a_later_version_has_upgraded(database, number):
    set_migration(database, number)
    check_upgraded(database)
    upgrade(database)
    assert read_migration(database) == number


@pytest.mark.parametrize("number", ["0002", "0000", "of_another_version", "2x", "-3", ""])
def test_a_process_does_not_start_on_a_database_that_lacks_a_migration_or_is_not_ours(database, number):
    set_migration(database, number)
    with pytest.raises(ConfigurationInvalid, match="database_not_upgraded"):
        check_upgraded(database)
