"""Minimal rows, photographs and variables for tests."""

import hashlib
from uuid import UUID, uuid4

from shared.database import Database, read_clock
from shared.domain import Caller, Case, NewCase, Photograph, Priority, Role
from shared.object_keys import photograph_key
from shared.settings import PREFIX, Settings
from shared.storage import ObjectStore
from shared.store import access, cases


def add_clinic(database: Database, name: str | None = None) -> UUID:
    with database.writing() as session:
        return access.add_clinic(session, name or f"Clinic {uuid4()}", read_clock(session))


def add_key(database: Database, role: Role, clinic_id: UUID | None = None) -> str:
    with database.writing() as session:
        return access.add_key(session, role, clinic_id, read_clock(session)).key


def clinic_caller(clinic_id: UUID) -> Caller:
    return Caller(uuid4(), Role.CLINIC, clinic_id)


def new_case(clinic_id: UUID, **changes) -> NewCase:
    photograph = Photograph(f"{clinic_id}/x/{'0' * 64}.jpg", "image/jpeg", 640, 480, 1000, "0" * 64)
    values = {
        "id": uuid4(),
        "clinic_id": clinic_id,
        "photograph": photograph,
        "priority": Priority.ROUTINE,
        "reference": None,
        "age": None,
        "sex": None,
        "site": None,
        "idempotency_key": None,
        "request_sha256": "0" * 64,
    }
    return NewCase(**values | changes)


def add_case(database: Database, clinic_id: UUID, **changes) -> Case:
    """Queue a case whose photograph is not stored."""
    with database.writing() as session:
        return cases.add_case(session, new_case(clinic_id, **changes), read_clock(session))


def add_photograph(database: Database, store: ObjectStore, clinic_id: UUID, data: bytes, **changes) -> Case:
    """Queue a case whose photograph is stored, as the API would."""
    case_id, digest = uuid4(), hashlib.sha256(data).hexdigest()
    key = photograph_key(clinic_id, case_id, digest, "image/jpeg")
    store.put(key, data, "image/jpeg")
    photograph = Photograph(key, "image/jpeg", 640, 480, len(data), digest)
    return add_case(database, clinic_id, id=case_id, photograph=photograph, **changes)


def variables_of(settings: Settings) -> dict[str, str]:
    """Return the variables that give a process these settings."""
    told = {name: value for name, value in settings if name in settings.model_fields_set}
    told |= {"s3_secret_key": settings.s3_secret_key.get_secret_value()}
    return {f"{PREFIX}{name.upper()}": str(value) for name, value in told.items()}
