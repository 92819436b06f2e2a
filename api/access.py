"""The admins' routes for clinics and their keys."""

from datetime import timedelta
from uuid import UUID

from flask import Response

from api.admin_schemas import (
    ClinicChangeIn,
    ClinicIn,
    ClinicListOut,
    ClinicOut,
    ClinicPath,
    KeyIn,
    KeyListOut,
    KeyMadeOut,
    KeyOut,
    KeyPath,
    KeyRotationIn,
)
from api.answers import answer, parse_id
from api.auth import allow
from api.blueprints import guarded_blueprint
from api.bodies import reads_body
from api.changes import changing
from api.problems import problem_responses
from api.services import services
from shared.database import read_clock
from shared.domain import Role
from shared.errors import NotFound
from shared.store import access

blueprint = guarded_blueprint("access", "/v1/admin", "Clinics and keys: who may use the service.")
_WRITES = problem_responses(400, 413, content_type_unsupported=415)


@blueprint.get("/clinics", responses={200: ClinicListOut})
@allow(Role.ADMIN)
def list_clinics() -> Response:
    """List all clinics with their limits."""
    with services().database.reading() as session:
        found = access.list_clinics(session)
    return answer(ClinicListOut(clinics=[ClinicOut.of(clinic) for clinic in found]), 200)


@blueprint.post("/clinics", responses={201: ClinicOut, **_WRITES, **problem_responses(clinic_exists=409)})
@allow(Role.ADMIN)
@reads_body(json=ClinicIn)
def add_clinic(sent: ClinicIn) -> Response:
    """Add a clinic.

    Then give it a key with `POST /v1/admin/keys`.
    """
    with changing("clinic.added") as (session, now):
        clinic_id = access.add_clinic(session, sent.name, now)
        access.set_limits(session, clinic_id, waiting_limit=sent.waiting_limit, retention_days=sent.retention_days)
        added = access.read_clinic(session, clinic_id)
    return answer(ClinicOut.of(added), 201)


@blueprint.patch(
    "/clinics/<clinic_id>", responses={200: ClinicOut, **_WRITES, **problem_responses(clinic_not_found=404)}
)
@allow(Role.ADMIN)
@reads_body(json=ClinicChangeIn)
def change_clinic(sent: ClinicChangeIn, path: ClinicPath) -> Response:
    """Change a clinic's limits."""
    clinic_id = parse_id(path.clinic_id, NotFound("clinic_not_found", "There is no such clinic."))
    with changing("clinic.changed") as (session, _):
        access.read_clinic(session, clinic_id)
        access.set_limits(session, clinic_id, **sent.model_dump(include=sent.model_fields_set))
        changed = access.read_clinic(session, clinic_id)
    return answer(ClinicOut.of(changed), 200)


@blueprint.get("/keys", responses={200: KeyListOut})
@allow(Role.ADMIN)
def list_keys() -> Response:
    """List all keys, without their secrets."""
    with services().database.reading() as session:
        found = access.list_keys(session, read_clock(session))
    return answer(KeyListOut(keys=[KeyOut.of(key) for key in found]), 200)


@blueprint.post("/keys", responses={201: KeyMadeOut, **_WRITES, **problem_responses(clinic_not_found=404)})
@allow(Role.ADMIN)
@reads_body(json=KeyIn)
def add_key(sent: KeyIn) -> Response:
    """Create a key.

    It is shown in this answer only.
    """
    with changing("key.added") as (session, now):
        if sent.clinic_id is not None:
            access.read_clinic(session, sent.clinic_id)
        made = access.add_key(session, sent.role, sent.clinic_id, now, access.expires_after(sent.days, now))
    return answer(KeyMadeOut.of(made), 201)


@blueprint.post("/keys/<key_id>/rotate", responses={201: KeyMadeOut, **_WRITES, **problem_responses(key_not_found=404)})
@allow(Role.ADMIN)
@reads_body(json=KeyRotationIn)
def rotate_key(sent: KeyRotationIn, path: KeyPath) -> Response:
    """Create a key with the same permissions; the old one expires when the overlap ends."""
    key_id, overlap = _parse_key_id(path), timedelta(days=sent.overlap_days)
    with changing("key.rotated") as (session, now):
        made = access.rotate_key(session, key_id, now, overlap, access.expires_after(sent.days, now))
    return answer(KeyMadeOut.of(made), 201)


@blueprint.post("/keys/<key_id>/revoke", responses={204: None, **problem_responses(key_not_found=404)})
@allow(Role.ADMIN)
def revoke_key(path: KeyPath) -> Response:
    """Revoke a key at once."""
    key_id = _parse_key_id(path)
    with changing("key.revoked") as (session, now):
        access.revoke_key(session, key_id, now)
    return Response(status=204)


def _parse_key_id(path: KeyPath) -> UUID:
    return parse_id(path.key_id, access.no_valid_key())
