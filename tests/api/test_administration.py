"""The admins' queue in numbers, and their calls on clinics and keys."""

from uuid import uuid4

import pytest

from shared.database import read_clock
from shared.store import workers
from shared.store.workers import Worker
from tests.api.calls import MODEL_DIGEST, Api, activate_model, read_problem, record_problem


def post(admin: Api, address: str, sent: dict | None = None, method: str = "POST"):
    return admin.call(method, f"/v1/admin/{address}", json=sent or {})


def key_id_of(admin: Api, prefix: str) -> str:
    return next(key["id"] for key in admin.get("/v1/admin/keys").json["keys"] if key["prefix"] == prefix)


def test_an_empty_queue_says_so(admin):
    answer = admin.get("/v1/admin/queue").json
    assert answer | {"waiting": 0, "running": 0, "oldest": None, "workers_needed": None} == answer
    assert answer["clinics"] == answer["hours"] == answer["workers"] == []


def test_the_queue_tells_what_waits_what_ended_and_how_many_workers_it_needs(admin, clinic, database):
    failed, *waiting = [clinic.submit() for _ in range(4)]
    record_problem(database, failed.json["id"])
    activate_model(database)
    with database.writing() as session:
        fast = Worker(uuid4(), "here:1", "cpu", 16, MODEL_DIGEST, 2.0)
        workers.note_worker(session, fast, read_clock(session))
    answer = admin.get("/v1/admin/queue?minutes=1").json
    assert (answer["waiting"], answer["running"], answer["clear_in_minutes"]) == (3, 0, 1)
    assert answer["oldest"] == waiting[0].json["submitted_at"]
    assert answer["arriving_per_minute"] == pytest.approx(4 / 60)
    assert answer["workers_needed"] == 2
    assert [(load["id"], load["waiting"]) for load in answer["clinics"]] == [(str(clinic.id), 3)]
    assert [(hour["succeeded"], hour["failed"]) for hour in answer["hours"]] == [(0, 1)]
    assert [(worker["name"], worker["alive"], worker["model"]) for worker in answer["workers"]] == [
        ("here:1", True, "made-up 1.2.3")
    ]


def test_a_clinic_is_added_listed_and_limited(admin):
    added = post(admin, "clinics", {"name": "North", "retention_days": 90})
    assert (added.status_code, added.json["retention_days"]) == (201, 90)
    address = f"clinics/{added.json['id']}"
    changed = post(admin, address, {"waiting_limit": 5}, "PATCH").json
    assert (changed["waiting_limit"], changed["retention_days"]) == (5, 90)
    changed = post(admin, address, {"retention_days": None}, "PATCH").json
    assert (changed["waiting_limit"], changed["retention_days"]) == (5, None)
    assert admin.get("/v1/admin/clinics").json["clinics"] == [changed]


def test_a_second_clinic_of_a_name_is_refused(admin):
    post(admin, "clinics", {"name": "North"})
    assert read_problem(post(admin, "clinics", {"name": "North"}), 409)["code"] == "clinic_exists"


@pytest.mark.parametrize("sent", [{}, {"waiting_limit": 0}, {"retention_days": 36_501}, {"name": "South"}])
def test_a_change_that_makes_no_sense_is_refused(admin, clinic, sent):
    read_problem(post(admin, f"clinics/{clinic.id}", sent, "PATCH"), 400)


def test_a_key_works_as_soon_as_it_is_made_until_it_is_revoked(admin, client, clinic):
    made = post(admin, "keys", {"role": "clinic", "clinic_id": str(clinic.id), "days": 1}).json
    holder = Api(client, made["key"])
    assert holder.get("/v1/cases").status_code == 200
    key_id = key_id_of(admin, made["prefix"])
    expiries = {key["prefix"]: key["expires_at"] for key in admin.get("/v1/admin/keys").json["keys"]}
    assert expiries.pop(made["prefix"]) is not None
    assert set(expiries.values()) == {None}
    assert post(admin, f"keys/{key_id}/revoke").status_code == 204
    assert read_problem(holder.get("/v1/cases"), 401)["code"] == "key_revoked"
    read_problem(post(admin, f"keys/{key_id}/revoke"), 404)
    states = {key["prefix"]: key["state"] for key in admin.get("/v1/admin/keys").json["keys"]}
    assert sorted(states.values()) == ["revoked", "valid", "valid"]


def test_a_rotated_key_goes_on_for_the_overlap(admin, client, reviewer):
    key_id = key_id_of(admin, reviewer.key.split("_")[1])
    made = post(admin, f"keys/{key_id}/rotate", {"overlap_days": 1}).json
    assert [Api(client, key).get("/v1/cases").status_code for key in (reviewer.key, made["key"])] == [200, 200]
    post(admin, f"keys/{key_id}/rotate", {"overlap_days": 0, "days": 30})
    newest = max(admin.get("/v1/admin/keys").json["keys"], key=lambda key: key["created_at"])
    assert newest["expires_at"] is not None
    assert read_problem(reviewer.get("/v1/cases"), 401)["code"] == "key_expired"


@pytest.mark.parametrize(
    "sent", [{}, {"role": "clinic"}, {"role": "admin", "clinic_id": str(uuid4())}, {"role": "reviewer", "days": 0}]
)
def test_a_key_that_makes_no_sense_is_not_made(admin, sent, rows):
    before = rows("api_keys")
    read_problem(post(admin, "keys", sent), 400)
    assert rows("api_keys") == before


def test_no_listing_tells_a_secret(admin, clinic, reviewer):
    listing = admin.get("/v1/admin/keys").text
    assert not any(holder.key.split("_", 2)[2] in listing for holder in (admin, clinic, reviewer))


def test_what_admins_do_is_on_record(admin, clinic):
    post(admin, f"clinics/{clinic.id}", {"waiting_limit": 5}, "PATCH")
    post(admin, "keys", {"role": "reviewer"})
    entries = admin.get("/v1/admin/audit").json["entries"]
    assert [(entry["action"], entry["role"], entry["case_id"]) for entry in entries] == [
        ("key.added", "admin", None),
        ("clinic.changed", "admin", None),
    ]


def test_a_change_that_is_refused_is_taken_back_and_not_on_record(admin, rows):
    post(admin, "clinics", {"name": "North"})
    before = rows("clinics", "api_keys", "audit_events")
    read_problem(post(admin, "clinics", {"name": "North"}), 409)
    read_problem(post(admin, f"clinics/{uuid4()}", {"waiting_limit": 5}, "PATCH"), 404)
    read_problem(post(admin, "keys", {"role": "clinic", "clinic_id": str(uuid4())}), 404)
    read_problem(post(admin, f"keys/{uuid4()}/revoke"), 404)
    assert rows("clinics", "api_keys", "audit_events") == before
