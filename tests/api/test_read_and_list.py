"""Reading, waiting, listing, cancelling and deleting cases, and who may do which."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import BoundedSemaphore, Event

import pytest

from api.services import EXTENSION
from shared.domain import Priority
from tests import images
from tests.api.calls import MODEL_DIGEST, POINT, PROBABILITIES, Api, read_list, read_problem
from tests.factories import add_case

LONG_S = 30


class WatchedSeats(BoundedSemaphore):
    """Seats that tell when one is taken."""

    def __init__(self, count: int):
        super().__init__(count)
        self.taken = Event()

    def acquire(self, **options) -> bool:
        has_seat = super().acquire(**options)
        self.taken.set()
        return has_seat


@pytest.fixture
def seats(app, services) -> WatchedSeats:
    """The one seat of the app in which a request can wait."""
    seats = WatchedSeats(1)
    app.extensions[EXTENSION] = replace(services, waiting_seats=seats)
    return seats


@pytest.fixture
def case(clinic) -> str:
    """The address of a queued case."""
    return clinic.submit().headers["Location"]


def id_in(address: str) -> str:
    return address.rsplit("/", 1)[1]


def test_a_result_is_read_with_all_that_made_it(clinic, case, succeed):
    succeed(id_in(case))
    read = clinic.get(case).json
    assert (read["state"], read["error"]) == ("succeeded", None)
    assert read["finished_at"] > read["submitted_at"]
    assert read["links"]["heatmap"] == f"{case}/heatmap"
    assert read["result"] == {
        "probabilities": dict(zip(("melanoma", "seborrheic_keratosis", "nevus"), PROBABILITIES, strict=True)),
        "melanoma_probability": PROBABILITIES[0],
        "decision": "refer",
        "operating_point": POINT.model_dump(),
        "model": {"name": "made-up", "version": "1.2.3", "digest": MODEL_DIGEST},
        "preprocessing": "squash-256-jpeg-bilinear-224",
        "code_version": "0.1.0",
        "warnings": ["photograph_small"],
        "plausible": ["melanoma", "seborrheic_keratosis"],
        "uncertain": True,
        "notice": "Decision aid for clinicians. Not a diagnosis: it decides nothing alone.",
    }


@pytest.mark.parametrize(("plausible", "uncertain"), [(("nevus",), False), (None, None)])
def test_a_result_is_not_uncertain_with_one_plausible_diagnosis_and_says_nothing_where_none_was_asked_for(
    clinic, case, succeed, plausible, uncertain
):
    succeed(id_in(case), plausible=plausible)
    result = clinic.get(case).json["result"]
    assert (result["plausible"], result["uncertain"]) == (plausible and list(plausible), uncertain)


def test_an_unchanged_case_is_not_sent_again_and_a_changed_one_is(clinic, case, succeed):
    first = clinic.get(case)
    seen = {"If-None-Match": first.headers["ETag"]}
    unchanged = clinic.get(case, headers=seen)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    succeed(id_in(case))
    changed = clinic.get(case, headers=seen)
    assert (changed.status_code, changed.json["state"]) == (200, "succeeded")
    assert changed.headers["ETag"] != first.headers["ETag"]


def test_only_a_case_that_is_not_final_asks_to_come_back(clinic, case, succeed):
    assert int(clinic.get(case).headers["Retry-After"]) > 0
    succeed(id_in(case))
    assert "Retry-After" not in clinic.get(case).headers


def test_whoever_waits_gets_the_result_as_soon_as_it_is_there(clinic, case, succeed, seats):
    def finish() -> None:
        assert seats.taken.wait(LONG_S)
        succeed(id_in(case))

    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        finishing = pool.submit(finish)
        answer = clinic.get(case, headers={"Prefer": f"respond-async, wait={LONG_S}"})
        finishing.result()
    assert answer.json["state"] == "succeeded"
    assert answer.headers["Preference-Applied"] == f"wait={LONG_S}"
    assert time.monotonic() - began < LONG_S / 2


def test_whoever_waits_in_vain_gets_the_case_as_it_is_and_frees_the_seat(clinic, case, seats):
    for _ in range(2):
        answer = clinic.get(case, headers={"Prefer": "wait=1"})
        assert answer.json["state"] == "queued"
        assert answer.headers["Preference-Applied"] == "wait=1"
    assert seats.acquire(blocking=False)


def test_a_final_case_is_answered_at_once_however_long_the_client_would_wait(clinic, case, succeed):
    succeed(id_in(case))
    began = time.monotonic()
    assert clinic.get(case, headers={"Prefer": "wait=999999"}).headers["Preference-Applied"] == "wait=30"
    assert time.monotonic() - began < LONG_S / 2


@pytest.mark.parametrize("preference", ["", "wait", "wait=", "wait=soon", "await=20", "respond-async", "wait=0"])
def test_a_preference_that_is_none_is_ignored(clinic, case, preference):
    answer = clinic.get(case, headers={"Prefer": preference})
    assert answer.status_code == 200
    assert "Preference-Applied" not in answer.headers


def test_at_most_half_of_the_threads_wait(open_app, clinic, case):
    app = open_app(api_threads=4)
    seats = app.extensions[EXTENSION].waiting_seats
    assert [seats.acquire(blocking=False) for _ in range(3)] == [True, True, False]
    began = time.monotonic()
    answer = Api(app.test_client(), clinic.key).get(case, headers={"Prefer": f"wait={LONG_S}"})
    assert time.monotonic() - began < LONG_S / 2
    assert answer.json["state"] == "queued"
    assert "Preference-Applied" not in answer.headers


def test_pages_lead_through_all_cases_newest_first(clinic, database, other_clinic):
    ids = [str(add_case(database, clinic.id).id) for _ in range(7)]
    add_case(database, other_clinic.id)
    address, pages = "/v1/cases?limit=3", []
    while address:
        answer = clinic.get(address)
        pages.append([case["id"] for case in read_list(answer)])
        link = answer.headers.get("Link", "")
        assert link == "" or link.endswith('>; rel="next"')
        address = link.removeprefix("<").partition(">")[0]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [case_id for page in pages for case_id in page] == ids[::-1]


def test_a_full_last_page_names_no_next_one(clinic, database):
    for _ in range(2):
        add_case(database, clinic.id)
    assert "Link" not in clinic.get("/v1/cases?limit=2").headers


def test_the_next_page_keeps_the_filters(clinic, database):
    for reference in ("a & b", "c") * 3:
        add_case(database, clinic.id, reference=reference)
    first = clinic.get("/v1/cases?limit=2&reference=a+%26+b&state=queued")
    second = clinic.get(first.headers["Link"][1:].partition(">")[0])
    references = [case["reference"] for page in (first, second) for case in read_list(page)]
    assert references == ["a & b"] * 3


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"a", "b", "c"}),
        ("state=queued", {"b", "c"}),
        ("state=succeeded", {"a"}),
        ("state=failed", set()),
        ("reference=b", {"b"}),
        ("reference=B", set()),
        ("state=queued&reference=a", set()),
    ],
)
def test_a_list_shows_what_was_asked_for(clinic, database, succeed, query, expected):
    first, *_ = [add_case(database, clinic.id, reference=name, priority=Priority.URGENT) for name in "abc"]
    succeed(str(first.id))
    assert {case["reference"] for case in read_list(clinic.get(f"/v1/cases?{query}"))} == expected


def test_a_waiting_case_can_be_cancelled_once(clinic, case, rows):
    answer = clinic.call("POST", f"{case}/cancel")
    assert answer.status_code == 202
    assert (answer.json["state"], answer.json["finished_at"] is None) == ("cancelled", False)
    assert clinic.get(case).json == answer.json
    before = rows()
    again = clinic.call("POST", f"{case}/cancel")
    assert read_problem(again, 409)["code"] == "case_is_final"
    assert rows() == before
    assert [line.action for line in rows("audit_events")] == ["case.submitted", "case.cancelled"]


def test_a_case_with_a_result_cannot_be_cancelled(clinic, case, succeed):
    succeed(id_in(case))
    problem = read_problem(clinic.call("POST", f"{case}/cancel"), 409)
    assert (problem["code"], "succeeded" in problem["detail"]) == ("case_is_final", True)


def test_deleting_erases_pictures_result_and_personal_data_and_keeps_the_trail(clinic, succeed, rows, stored_keys):
    kept = clinic.submit().headers["Location"]
    answer = clinic.submit(reference="Jane", age="54", sex="female", site="arm", headers={"Idempotency-Key": "Jane"})
    address = answer.headers["Location"]
    for place in (kept, address):
        succeed(id_in(place))
    assert len(stored_keys(clinic)) == 4
    answer = clinic.call("DELETE", address)
    assert (answer.status_code, answer.data) == (202, b"")
    assert {key.split("/")[1] for key in stored_keys(clinic)} == {id_in(kept)}
    assert [str(row.case_id) for row in rows("analyses")] == [id_in(kept)]
    (row,) = [row for row in rows("cases") if str(row.id) == id_in(address)]
    assert [row.reference, row.age, row.sex, row.site, row.idempotency_key, row.decision] == [None] * 6
    assert [line.action for line in rows("audit_events") if str(line.case_id) == id_in(address)] == [
        "case.submitted",
        "case.deleted",
    ]


def test_a_deleted_case_is_gone_for_everybody(clinic, reviewer, case, succeed):
    succeed(id_in(case))
    clinic.call("DELETE", case)
    for path in ("", "/image", "/heatmap"):
        for who in (clinic, reviewer):
            assert read_problem(who.get(case + path), 404)["code"] == "case_not_found"
    assert read_problem(clinic.call("DELETE", case), 404)["code"] == "case_not_found"
    assert read_problem(clinic.call("POST", f"{case}/cancel"), 404)["code"] == "case_not_found"
    assert read_list(clinic.get("/v1/cases")) == []


def test_a_case_is_deleted_even_while_the_object_store_is_away(open_app, clinic, case, nowhere, stored_keys, rows):
    distant = Api(open_app(s3_endpoint_url=f"http://{nowhere}").test_client(), clinic.key)
    assert distant.call("DELETE", case).status_code == 202
    assert read_problem(clinic.get(case), 404)["code"] == "case_not_found"
    (row,) = rows("cases")  # tells the sweeper that objects are left
    assert (row.deleted_at is None, row.erased_at, len(stored_keys(clinic))) == (False, None, 1)


def test_a_deleted_cases_idempotency_key_can_be_used_anew(clinic):
    first = clinic.submit(headers={"Idempotency-Key": "k"})
    clinic.call("DELETE", first.headers["Location"])
    second = clinic.submit(images.encode(images.lesion(), "PNG"), headers={"Idempotency-Key": "k"})
    assert second.status_code == 202
    assert second.json["id"] != first.json["id"]


def test_a_reviewer_sees_the_cases_of_all_clinics(clinic, other_clinic, reviewer):
    submitted = [who.submit().json for who in (clinic, other_clinic)]
    assert read_list(reviewer.get("/v1/cases")) == submitted[::-1]
    assert [reviewer.get(case["links"]["self"]).json for case in submitted] == submitted


@pytest.mark.parametrize(
    ("role", "method", "path"),
    [
        ("reviewer", "POST", "/cancel"),
        ("reviewer", "DELETE", ""),
        ("admin", "POST", "/cancel"),
        ("admin", "DELETE", ""),
        ("admin", "GET", ""),
        ("admin", "GET", "/image"),
        ("admin", "GET", "/heatmap"),
    ],
)
def test_a_role_may_do_only_what_is_its_own(request, case, rows, stored_keys, clinic, role, method, path):
    who = request.getfixturevalue(role)  # whose key is a row, too
    before = rows(), stored_keys(clinic)
    problem = read_problem(who.call(method, case + path), 403)
    assert problem["code"] == "role_not_allowed"
    assert role in problem["detail"]
    assert (rows(), stored_keys(clinic)) == before


def test_only_a_clinic_submits_and_an_admin_lists_no_cases(reviewer, admin, rows):
    for answer in (reviewer.submit(), admin.submit(), admin.get("/v1/cases")):
        assert read_problem(answer, 403)["code"] == "role_not_allowed"
    assert rows("cases", "audit_events") == []
