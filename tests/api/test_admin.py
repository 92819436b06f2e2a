"""The admins' routes, and who has seen what: the audit trail as it is written and read through the API."""

import re
from uuid import UUID, uuid4

import pytest

from shared.database import read_clock
from shared.domain import Problem, State
from shared.errors import Unavailable
from shared.store import queue, trail
from tests.api.calls import Api, read_list, read_problem
from tests.factories import add_case

FAILURE = Problem(State.FAILED, "analysis_failed", "The analysis failed 3 times. A person must look at this case.")


@pytest.fixture
def fail(database):
    """Let the one waiting case fail."""

    def fail() -> None:
        with database.writing() as session:
            now = read_clock(session)
            (lease,) = queue.claim_cases(session, 1, 60, now)
            assert queue.record_problem(session, lease, FAILURE, now)

    return fail


@pytest.fixture
def case(clinic, succeed) -> str:
    """The address of a case that has a result."""
    answer = clinic.submit()
    succeed(answer.json["id"])
    return answer.headers["Location"]


def actions(rows, address: str) -> list[tuple[str, str]]:
    """What is on record of a case after it was submitted."""
    entries = [line for line in rows("audit_events") if f"/v1/cases/{line.case_id}" == address]
    assert entries[0].action == "case.submitted"
    return [(line.action, line.role) for line in entries[1:]]


def test_a_result_is_on_record_once_for_every_key_that_read_it_in_whatever_way(clinic, reviewer, case, rows):
    for _ in range(2):
        for address in (case, "/v1/cases", "/v1/cases?state=succeeded"):
            assert clinic.get(address).status_code == 200
    assert actions(rows, case) == [("case.read", "clinic")]
    for _ in range(2):
        assert len(read_list(reviewer.get("/v1/cases"))) == 1
        assert reviewer.get(case).status_code == 200
    assert actions(rows, case) == [("case.read", "clinic"), ("case.read", "reviewer")]


def test_a_result_that_a_repeated_submission_shows_is_on_record(clinic, succeed, rows):
    key = {"Idempotency-Key": "visit-1"}
    first = clinic.submit(headers=key)
    succeed(first.json["id"])
    assert actions(rows, first.headers["Location"]) == []
    assert clinic.submit(headers=key).json["result"]
    assert actions(rows, first.headers["Location"]) == [("case.read", "clinic")]


def test_what_is_known_to_be_on_record_is_not_looked_up_again(clinic, case, services, monkeypatch):
    looked = []
    monkeypatch.setattr(trail, "find_unread", lambda session, caller, case_ids: looked.append(case_ids) or [])
    for _ in range(3):
        assert clinic.get(case).status_code == 200
    assert len(looked) == 1


def test_every_result_on_a_page_is_on_record_and_none_of_the_next_page(clinic, succeed, database, rows):
    addresses = []
    for _ in range(3):
        case_id = add_case(database, clinic.id).id
        succeed(str(case_id))
        addresses.append(case_id)
    assert len(read_list(clinic.get("/v1/cases?limit=2"))) == 2
    assert [line.case_id for line in rows("audit_events")] == addresses[:0:-1]
    assert len(read_list(clinic.get("/v1/cases"))) == 3
    assert [line.case_id for line in rows("audit_events")] == [*addresses[:0:-1], addresses[0]]


def test_a_case_without_a_result_is_read_without_a_record(clinic, reviewer, fail, rows):
    waiting = clinic.submit().headers["Location"]
    for who in (clinic, reviewer):
        who.get(waiting), who.get("/v1/cases")
    fail()
    for who in (clinic, reviewer):
        who.get(waiting), who.get("/v1/cases")
    assert actions(rows, waiting) == []


def test_a_case_that_was_seen_waiting_is_on_record_once_its_result_is_read(clinic, case, succeed, rows):
    waiting = clinic.submit()
    address = waiting.headers["Location"]
    assert len(read_list(clinic.get("/v1/cases"))) == 2
    succeed(waiting.json["id"])
    assert (actions(rows, case), actions(rows, address)) == ([("case.read", "clinic")], [])
    assert clinic.get(address).json["state"] == "succeeded"
    assert actions(rows, address) == [("case.read", "clinic")]


def test_a_result_that_cannot_be_put_on_record_is_not_shown(clinic, case, monkeypatch):
    def refuse(*_) -> None:
        raise Unavailable("database_unavailable", "The database is away.")

    monkeypatch.setattr(trail, "audit", refuse)
    for address in (case, "/v1/cases"):
        assert "melanoma" not in clinic.get(address).text
        assert read_problem(clinic.get(address), 503)["code"] == "database_unavailable"


def test_every_single_look_at_a_picture_is_on_record(clinic, case, rows):
    for path in ("/image", "/heatmap", "/image"):
        assert clinic.get(case + path).status_code == 200
    assert [action for action, _ in actions(rows, case)] == ["image.read", "heatmap.read", "image.read"]


def entries(answer) -> list[dict]:
    assert answer.status_code == 200, answer.text
    return answer.json["entries"]


def test_the_trail_is_read_newest_first_page_by_page(clinic, admin, case, database):
    clinic.get(case)
    clinic.get(f"{case}/image")
    found = entries(admin.get("/v1/admin/audit"))
    assert [(entry["position"], entry["action"]) for entry in found] == [
        (3, "image.read"),
        (2, "case.read"),
        (1, "case.submitted"),
    ]
    assert {(entry["role"], entry["clinic_id"], f"/v1/cases/{entry['case_id']}") for entry in found} == {
        ("clinic", str(clinic.id), case)
    }
    with database.reading() as session:
        assert found[0]["hash"] == trail.verify_trail(session).head
    assert entries(admin.get("/v1/admin/audit?limit=2")) == found[:2]
    assert entries(admin.get("/v1/admin/audit?limit=2&before=2")) == found[2:]
    assert entries(admin.get("/v1/admin/audit?before=1")) == []


def test_the_trail_can_be_that_of_one_case_even_of_a_deleted_one(clinic, admin, case):
    other = clinic.submit().headers["Location"]
    clinic.call("DELETE", case)
    for address, expected in ((case, ["case.deleted", "case.submitted"]), (other, ["case.submitted"])):
        found = entries(admin.get(f"/v1/admin/audit?case_id={address.rsplit('/')[-1]}"))
        assert [entry["action"] for entry in found] == expected
    assert entries(admin.get(f"/v1/admin/audit?case_id={uuid4()}")) == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "before=0", f"before={2**31}", "case_id=x"])
def test_a_page_of_the_trail_that_cannot_be_is_refused(admin, query):
    assert read_problem(admin.get(f"/v1/admin/audit?{query}"), 400)["code"] == "field_invalid"
    assert read_problem(admin.get("/v1/admin/audit?action=case.read"), 400)["code"] == "field_unknown"


def test_failed_cases_of_all_clinics_are_listed_newest_first_without_a_word_of_the_patient(
    clinic, other_clinic, admin, fail
):
    failed = []
    for who in (clinic, other_clinic):
        submitted = who.submit(reference="Jane", age="54").json
        fail()
        failed.append(who.get(submitted["links"]["self"]).json | {"clinic_id": str(who.id)})
    clinic.submit()
    answer = admin.get("/v1/admin/failed")
    assert read_list(answer) == [
        {name: case[name] for name in ("id", "clinic_id", "state", "submitted_at", "finished_at", "error")}
        for case in reversed(failed)
    ]
    assert answer.json["cases"][0]["error"] == {"code": FAILURE.code, "detail": FAILURE.detail}
    assert "Jane" not in answer.text
    first = admin.get("/v1/admin/failed?limit=1")
    (following,) = re.findall('^<(/v1/admin/failed.*)>; rel="next"$', first.headers["Link"])
    last = admin.get(following)
    assert read_list(first) + read_list(last) == read_list(answer)
    assert ("Link" in last.headers, "Link" in answer.headers) == (False, False)
    assert read_problem(admin.get("/v1/admin/failed?cursor=x"), 400)["code"] == "cursor_malformed"


def test_a_failed_case_is_requeued_rung_for_and_its_clinic_sees_it_wait(clinic, admin, fail, rung, rows):
    address = clinic.submit().headers["Location"]
    fail()
    before, rings = clinic.get(address), rung()
    answer = admin.call("POST", f"/v1/admin/failed/{before.json['id']}/requeue")
    assert (answer.status_code, answer.json["state"], answer.json["error"]) == (202, "queued", None)
    after = clinic.get(address)
    assert (after.json["state"], after.json["error"], after.json["finished_at"]) == ("queued", None, None)
    assert after.headers["ETag"] != before.headers["ETag"]
    assert rung() == rings + 1
    assert actions(rows, address) == [("case.requeued", "admin")]
    assert read_list(admin.get("/v1/admin/failed")) == []
    again = admin.call("POST", f"/v1/admin/failed/{before.json['id']}/requeue")
    assert read_problem(again, 409)["code"] == "case_not_failed"


def test_what_is_no_failed_case_is_not_requeued_and_nobody_is_rung_for(clinic, admin, case, rung, rows):
    deleted = clinic.submit()
    clinic.call("DELETE", deleted.headers["Location"])
    before = rows(), rung()

    def refusal(case_id: str | UUID, status: int) -> str:
        return read_problem(admin.call("POST", f"/v1/admin/failed/{case_id}/requeue"), status)["code"]

    assert refusal(case.rsplit("/")[-1], 409) == "case_not_failed"
    for nothing in (deleted.json["id"], uuid4(), "42"):
        assert refusal(nothing, 404) == "case_not_found"
    assert (rows(), rung()) == before


def test_an_admin_sees_neither_photograph_nor_result(admin: Api, case):
    for address in (case, f"{case}/image", f"{case}/heatmap", "/v1/cases"):
        assert read_problem(admin.get(address), 403)["code"] == "role_not_allowed"
