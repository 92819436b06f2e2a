"""An admin's pages: the queue in numbers, failed cases, clinics and keys, the audit trail."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from flask import Response, redirect, request, url_for

from api import access, overview
from api import admin as routes
from api.admin_schemas import (
    AuditQuery,
    ClinicChangeIn,
    ClinicIn,
    ClinicPath,
    FailedQuery,
    KeyIn,
    KeyPath,
    KeyRotationIn,
    QueueQuery,
)
from api.auth import allow
from api.pages.frame import ask_with_form, guarded_pages, read_fields, read_query, show, word_problems_by
from api.schemas import CasePath
from api.services import services
from shared.database import read_clock
from shared.domain import Role
from shared.errors import NotFound
from shared.store import cases
from shared.store.access import no_valid_key, shortens
from shared.store.worklist import COUNTED_AT_MOST

_LIMITS = ("waiting_limit", "retention_days")

admin = guarded_pages("admin")


@admin.get("/queue")
@allow(Role.ADMIN)
def show_queue() -> Response:
    query = read_query(QueueQuery)
    found = overview.read_queue(query=query).get_json()
    hours = _every_hour(found["hours"], query.hours)
    return show(
        "queue.html",
        queue=found,
        hours=hours,
        most_ended=max([1, *(hour["succeeded"] + hour["rejected"] + hour["failed"] for hour in hours)]),
        longest_s=max([1.0, *(hour["p95_s"] for hour in hours)]),
    )


@admin.get("/failed")
@allow(Role.ADMIN)
def list_failed() -> Response:
    query = read_query(FailedQuery)
    page, following = routes.list_failed_page(query)
    return show("failed.html", cases=page.model_dump(mode="json")["cases"], query=query, following=following)


@admin.post("/failed/<case_id>/requeue")
@allow(Role.ADMIN)
def requeue(case_id: str) -> Response:
    routes.requeue_failed(path=CasePath(case_id=case_id))
    page = read_query(FailedQuery).model_dump(exclude_defaults=True)
    return redirect(url_for("pages.admin.list_failed", **page), 303)


@admin.get("/access")
@allow(Role.ADMIN)
def list_clinics() -> Response:
    return show("access.html", **_of_access_page())


@admin.get("/access/clinics")
@admin.get("/access/clinics/<clinic_id>")
@admin.get("/access/keys")
@allow(Role.ADMIN)
def show_again(clinic_id: str | None = None) -> Response:
    """Lead from the address of a page that answered a form, as after a reload, to the form's own."""
    return redirect(url_for("pages.admin.list_clinics"), 303)


@admin.post("/access/clinics")
@allow(Role.ADMIN)
def add_clinic() -> Response:
    word_problems_by("access.html", **_of_access_page())
    ask_with_form(access.add_clinic, ClinicIn)
    return redirect(url_for("pages.admin.list_clinics"), 303)


@admin.post("/access/clinics/<clinic_id>")
@allow(Role.ADMIN)
def change_clinic(clinic_id: str) -> Response:
    """Change only what was edited in the form; the rest may have been changed in another tab since."""
    known = _of_access_page()
    word_problems_by("access.html", **known)
    clinic = next((one for one in known["clinics"] if one["id"] == clinic_id), None)
    if clinic is None:
        raise NotFound("clinic_not_found", "There is no such clinic.")
    limits = {name: request.form.get(name) for name in _LIMITS}  # an empty field removes the limit
    changed = {name: limit for name, limit in limits.items() if limit != request.form.get(f"was_{name}")}
    if changed:
        sent = read_fields(ClinicChangeIn, changed)
        if shortens(clinic["retention_days"], sent.retention_days) and "confirmed" not in request.form:
            return _ask_retention(clinic, sent.retention_days)
        access.change_clinic.with_body(sent=sent, path=ClinicPath(clinic_id=clinic_id))
    return redirect(url_for("pages.admin.list_clinics"), 303)


@admin.post("/access/keys")
@allow(Role.ADMIN)
def add_key() -> Response:
    word_problems_by("access.html", **_of_access_page())
    return show("key.html", made=ask_with_form(access.add_key, KeyIn).get_json())


@admin.get("/access/keys/<key_id>/rotate")
@allow(Role.ADMIN)
def ask_rotation(key_id: str) -> Response:
    return show("change_key.html", **_of_key(key_id), rotates=True)


@admin.post("/access/keys/<key_id>/rotate")
@allow(Role.ADMIN)
def rotate_key(key_id: str) -> Response:
    word_problems_by("change_key.html", **_of_key(key_id), rotates=True)
    made = ask_with_form(access.rotate_key, KeyRotationIn, path=KeyPath(key_id=key_id))
    return show("key.html", made=made.get_json())


@admin.get("/access/keys/<key_id>/revoke")
@allow(Role.ADMIN)
def ask_revocation(key_id: str) -> Response:
    return show("change_key.html", **_of_key(key_id), rotates=False)


@admin.post("/access/keys/<key_id>/revoke")
@allow(Role.ADMIN)
def revoke_key(key_id: str) -> Response:
    access.revoke_key(path=KeyPath(key_id=key_id))
    return redirect(url_for("pages.admin.list_clinics"), 303)


@admin.get("/audit")
@allow(Role.ADMIN)
def list_audit() -> Response:
    query, known = read_query(AuditQuery), _of_access_page()
    return show(
        "audit.html",
        entries=routes.list_audit(query=query).get_json()["entries"],
        query=query,
        keys={key["id"]: key for key in known["keys"]},
        clinic_names=known["clinic_names"],
    )


def _of_access_page() -> dict:
    clinics = access.list_clinics().get_json()["clinics"]
    return {
        "clinics": clinics,
        "clinic_names": {clinic["id"]: clinic["name"] for clinic in clinics},
        "keys": access.list_keys().get_json()["keys"],
        "roles": list(Role),
    }


def _ask_retention(clinic: dict, days: int) -> Response:
    with services().database.reading() as session:
        count = cases.count_outdated(session, UUID(clinic["id"]), days, read_clock(session), COUNTED_AT_MOST)
    return show("retention.html", clinic=clinic, days=days, count=count, most=COUNTED_AT_MOST, sent=request.form)


def _of_key(key_id: str) -> dict:
    known = _of_access_page()
    for key in known["keys"]:
        if key["id"] == key_id:
            return {"key": key, "clinic_names": known["clinic_names"]}
    raise no_valid_key()


def _every_hour(known: Sequence[dict], hours: int) -> list[dict]:
    """Return the last hours, oldest first, including those in which no case finished."""
    by_start = {datetime.fromisoformat(hour["start"]): hour for hour in known}
    this = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    nothing = {"succeeded": 0, "rejected": 0, "failed": 0, "median_s": 0.0, "p95_s": 0.0}
    starts = [this - timedelta(hours=back) for back in reversed(range(hours))]
    return [nothing | by_start.get(start, {}) | {"start": start} for start in starts]
