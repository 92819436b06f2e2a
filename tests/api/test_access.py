"""The admins' calls on clinics and keys."""

from uuid import uuid4

import pytest

from tests.api.calls import Api, read_problem


def post(admin: Api, address: str, sent: dict | None = None, method: str = "POST"):
    return admin.call(method, f"/v1/admin/{address}", json=sent or {})


def key_id_of(admin: Api, prefix: str) -> str:
    return next(key["id"] for key in admin.get("/v1/admin/keys").json["keys"] if key["prefix"] == prefix)


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
    key_id = made["id"]
    assert key_id == key_id_of(admin, made["prefix"])
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
    assert made["id"] == key_id_of(admin, made["prefix"])
    post(admin, f"keys/{key_id}/rotate", {"overlap_days": 0, "days": 30})
    newest = max(admin.get("/v1/admin/keys").json["keys"], key=lambda key: key["created_at"])
    assert newest["expires_at"] is not None
    assert read_problem(reviewer.get("/v1/cases"), 401)["code"] == "key_expired"
    states = {key["id"]: key["state"] for key in admin.get("/v1/admin/keys").json["keys"]}
    assert states.pop(key_id) == "expired"
    assert set(states.values()) == {"valid"}


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
