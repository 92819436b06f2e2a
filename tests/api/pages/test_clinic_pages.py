"""The pages of clinics and of reviewers, as they are without scripts."""

import io
import re
from html import unescape

import pytest
from werkzeug.test import TestResponse

from shared.domain import NO_ALL_CLEAR, NOTICE
from shared.errors import Unavailable
from shared.store import access
from tests.api.calls import JPEG, PROBABILITIES, UNUSABLE, record_problem
from tests.api.conftest import services_of

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def files(*contents: bytes) -> list[tuple[io.BytesIO, str]]:
    return [(io.BytesIO(content), f"mole-{number}.jpg") for number, content in enumerate(contents, start=1)]


def key_in(page: str) -> str:
    return re.search('name="idempotency_key" value="(.*?)"', page)[1]


def words_of(page: str) -> str:
    """Return what a page says, without its tags."""
    return " ".join(unescape(re.sub("<[^>]*>", " ", page)).split())


def test_photographs_sent_together_become_cases_and_the_others_are_told_why(clinic_visitor, rows):
    key = key_in(clinic_visitor.get("/submit").text)
    for _ in range(2):  # the second time as by a double click
        sent = {"idempotency_key": key, "image": files(JPEG, b"text", JPEG), "priority": "urgent"}
        led = clinic_visitor.post("/submissions", sent)
        assert led.status_code == 303
        said = words_of(clinic_visitor.client.get(led.location).text)
        assert "3 in total · 2 waiting · 1 not accepted" in said
        assert "mole-2.jpg Not accepted This file seems to be text" in said
    assert [row.priority for row in rows("cases")] == ["urgent", "urgent"]


def test_one_photograph_is_sent_with_what_is_known_of_it(clinic_visitor, clinic):
    fields = {"reference": "mole-17", "age": "54", "sex": "", "site": "left calf", "priority": "routine"}
    led = clinic_visitor.post("/cases", fields | {"image": files(JPEG)[0]})
    case = clinic.get(led.location.replace("/app/", "/v1/")).json
    assert {name: case[name] or "" for name in fields} == fields | {"age": 54}
    assert "mole-17" in clinic_visitor.client.get(led.location).text


def go_away() -> None:
    raise Unavailable("database_unavailable", "The database cannot be reached right now. Please try again.")


@pytest.mark.parametrize(
    ("address", "fields"),
    [("/submissions", {"priority": "urgent"}), ("/cases", {"priority": "urgent", "age": "54", "site": "left calf"})],
)
def test_what_is_sent_again_from_the_page_that_told_of_an_outage_is_one_case(
    clinic_visitor, app, rows, monkeypatch, address, fields
):
    """Something goes away after the commit: the page cannot know that the photograph was taken in."""
    key = key_in(clinic_visitor.get("/submit").text)
    with monkeypatch.context() as outage:
        outage.setattr(services_of(app).doorbell, "ring", go_away)
        told = clinic_visitor.post(address, fields | {"idempotency_key": key, "image": files(JPEG)[0]})
    assert told.status_code == 503
    assert "Please try again" in words_of(told.text)
    again = clinic_visitor.post(address, fields | {"idempotency_key": key_in(told.text), "image": files(JPEG)[0]})
    assert (again.status_code, len(rows("cases"))) == (303, 1)


def test_what_was_partly_taken_is_not_taken_twice_when_the_clinics_queue_is_full_in_between(
    clinic_visitor, clinic, services, database, rows, monkeypatch
):
    key = key_in(clinic_visitor.get("/submit").text)

    def send(key: str, *contents: bytes) -> TestResponse:
        return clinic_visitor.post("/submissions", {"idempotency_key": key, "image": files(*contents)})

    def limit(waiting: int | None) -> None:
        with database.writing() as session:
            access.set_limits(session, clinic.id, waiting_limit=waiting)

    def put_two(*arguments) -> None:
        put(*arguments) if next(room, False) else go_away()

    put, room = services.store.put, iter((True, True))
    with monkeypatch.context() as outage:
        outage.setattr(services.store, "put", put_two)
        told = send(key, *[JPEG] * 4)
    assert (told.status_code, len(rows("cases"))) == (503, 2)
    assert "Some may have been accepted: choose the same files again." in words_of(told.text)
    limit(2)
    told = send(key_in(told.text), *[JPEG] * 4)
    assert told.status_code == 429
    limit(None)
    assert send(key_in(told.text), *[JPEG] * 4).status_code == 303
    assert len(rows("cases")) == 4


def test_whoever_chooses_other_photographs_after_an_outage_is_told_in_words(clinic_visitor):
    key = key_in(clinic_visitor.get("/submit").text)
    for address in ("/submissions", "/cases"):
        clinic_visitor.post(address, {"idempotency_key": key, "image": files(JPEG)})
        told = clinic_visitor.post(address, {"idempotency_key": key, "image": files(JPEG + b"x")})
        assert told.status_code == 422
        assert "Check the list under Cases" in words_of(told.text)
        assert "Idempotency" not in words_of(told.text)


def test_what_was_entered_stands_in_the_form_again_after_a_problem(clinic_visitor):
    sent = {"reference": "mole-17", "priority": "urgent", "age": "54", "sex": "female", "site": "left calf"}
    told = clinic_visitor.post("/cases", sent | {"image": files(b"text")[0]})
    assert told.status_code == 415
    assert re.findall('<option value="(urgent|female)" selected>', told.text) == ["urgent", "female"]
    assert {value for name, value in sent.items() if name in ("reference", "age", "site")} <= set(
        re.findall(' value="(.*?)"', told.text)
    )
    assert re.search('value="urgent" checked', told.text)


def test_after_what_was_refused_the_page_has_a_new_key(clinic_visitor):
    key = key_in(clinic_visitor.get("/submit").text)
    told = clinic_visitor.post("/cases", {"idempotency_key": key, "image": files(b"text")[0]})
    assert key_in(told.text) != key


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        ({"image": (io.BytesIO(b"text"), "a.txt")}, 415, "This file seems to be text"),
        ({}, 400, "Send the photograph"),
    ],
)
def test_what_is_wrong_with_a_photograph_stands_above_the_form(clinic_visitor, sent, status, words):
    answer = clinic_visitor.post("/cases", sent, content_type="multipart/form-data")
    assert (answer.status_code, answer.mimetype) == (status, "text/html")
    assert words in words_of(answer.text)
    assert key_in(answer.text)


@pytest.mark.parametrize("address", ["/cases", "/submissions"])
@pytest.mark.parametrize("key", ["schlüssel", "k" * 256])
def test_a_key_in_a_form_that_the_api_would_refuse_is_refused(clinic_visitor, rows, address, key):
    told = clinic_visitor.post(address, {"idempotency_key": key, "image": files(JPEG)})
    assert (told.status_code, "Idempotency-Key: String should" in words_of(told.text)) == (400, True)
    assert rows("cases") == []


def test_a_script_is_answered_as_the_api_would(clinic_visitor):
    asks_for_json = {"Accept": "application/json"}
    sent = clinic_visitor.post("/submissions", {"image": files(JPEG)}, headers=asks_for_json).json
    assert sent["items"][0]["state"] == "queued"
    refused = clinic_visitor.post(
        "/submissions", {"image": "text"}, headers=asks_for_json, content_type="multipart/form-data"
    )
    assert (refused.status_code, refused.json["code"]) == (400, "image_missing")


@pytest.mark.parametrize("address", ["/cases", "/submissions"])
def test_a_script_is_told_to_send_again_what_the_disk_has_no_room_for(clinic_visitor, rows, full_disk, address):
    refused = clinic_visitor.post(address, {"image": files(JPEG)}, headers={"Accept": "application/json"})
    assert (refused.status_code, refused.json["code"]) == (503, "storage_unavailable")
    assert rows("cases") == []


def test_a_result_comes_with_its_operating_point_its_model_and_the_notice(clinic_visitor, clinic, succeed):
    case_id = clinic.submit(reference="<b>mole</b>").json["id"]
    succeed(case_id)
    page = clinic_visitor.get(f"/cases/{case_id}").text
    said = words_of(page)
    assert "<b>mole" not in page
    assert "Decision aid for clinicians. Not a diagnosis" in said
    assert "Suggestion at “high-sensitivity”: Refer" in said
    assert "Uncertain: of the model’s three diagnoses, melanoma and seborrheic keratosis are plausible." in said
    assert "for about 90% of the lesions of each diagnosis" in said
    assert "refer at 30% or more" in said
    assert 'd="M300.0 0v40"' in page
    for probability in PROBABILITIES:
        assert f'width="{probability * 1000:.1f}"' in page
    assert "Photograph small." in said
    assert "made-up 1.2.3" in said
    model = words_of(clinic_visitor.get(re.search(r'href="/app(/model)"', page)[1]).text)
    assert "It is made up by tests." in model


@pytest.mark.parametrize(
    ("plausible", "words"),
    [
        (("nevus",), "Of the model’s three diagnoses, only nevus is plausible."),
        (
            ("melanoma", "seborrheic_keratosis", "nevus"),
            "Uncertain: of the model’s three diagnoses, melanoma, seborrheic keratosis and nevus are plausible.",
        ),
        (None, None),
    ],
)
def test_a_result_says_which_diagnoses_are_plausible_if_that_is_known(
    clinic_visitor, clinic, succeed, plausible, words
):
    case_id = clinic.submit().json["id"]
    succeed(case_id, plausible=plausible)
    said = words_of(clinic_visitor.get(f"/cases/{case_id}").text)
    assert words in said if words else "plausible" not in said


def test_a_rejected_photograph_says_how_to_take_another(clinic_visitor, clinic, database):
    case_id = clinic.submit().json["id"]
    record_problem(database, case_id, UNUSABLE)
    said = words_of(clinic_visitor.get(f"/cases/{case_id}").text)
    assert "This photograph cannot be analysed The photograph is of one colour." in said
    assert "How to retake it" in said


def test_a_failed_case_says_that_there_is_no_result_and_not_to_wait(clinic_visitor, clinic, database):
    case_id = clinic.submit().json["id"]
    record_problem(database, case_id)
    said = words_of(clinic_visitor.get(f"/cases/{case_id}").text)
    assert "There is no result The analysis failed." in said
    assert "Do not wait for it" in said
    assert "Melanoma" not in said


def test_whoever_must_look_at_a_failed_case_sees_its_photograph(reviewer_visitor, clinic, database):
    case_id = clinic.submit().json["id"]
    record_problem(database, case_id)
    page = reviewer_visitor.get(f"/worklist/{case_id}").text
    (photograph,) = re.findall(r'<img src="/app(.*?)"', page)
    assert reviewer_visitor.get(photograph).data == clinic.get(f"/v1/cases/{case_id}/image").data


def test_what_a_form_says_of_a_failed_case_is_not_said_of_the_result_that_came_meanwhile(
    reviewer_visitor, reviewer, clinic, succeed, admin, database
):
    case_id = clinic.submit().json["id"]
    record_problem(database, case_id)
    old = reviewer_visitor.get(f"/worklist/{case_id}").text
    sent = {"verdict": "disagree", "note": "No result.", "version": re.search('name="version" value="(.*?)"', old)[1]}
    admin.call("POST", f"/v1/admin/failed/{case_id}/requeue")
    succeed(case_id)
    refused = reviewer_visitor.post(f"/worklist/{case_id}/review", sent)
    assert (refused.status_code, "analysed again in the meantime" in refused.text) == (412, True)
    assert " checked" not in refused.text
    assert reviewer.get(f"/v1/cases/{case_id}/review").json == {"review": None, "earlier": []}
    sent["version"] = re.search('name="version" value="(.*?)"', refused.text)[1]
    assert reviewer_visitor.post(f"/worklist/{case_id}/review", sent).status_code == 303


@pytest.mark.parametrize(
    ("days", "shown"),
    [
        ("sent_from=2020-01-01&sent_until=9999-12-30", True),
        ("sent_from=0001-01-01&sent_until=2020-01-01", False),
        ("sent_until=9999-12-31", None),
        ("sent_from=10000-01-01", None),
        ("sent_until=tomorrow", None),
    ],
)
def test_the_worklist_is_of_the_days_that_were_asked_for(reviewer_visitor, analysed, days, shown):
    listed = reviewer_visitor.get(f"/worklist?{days}")
    following = reviewer_visitor.get(f"/worklist/{analysed}/next?{days}")
    if shown is None:
        assert (listed.status_code, following.status_code) == (400, 400)
        assert "A date must look like 2026-01-31" in words_of(listed.text)
    else:
        assert (listed.status_code, following.status_code) == (200, 303)
        assert (f"/app/worklist/{analysed}" in listed.text) == shown


def test_a_page_that_did_not_change_is_not_sent_again(clinic_visitor, clinic, succeed):
    case_id = clinic.submit().json["id"]
    etag = clinic_visitor.get("/cases").headers["ETag"]
    assert clinic_visitor.get("/cases", headers={"If-None-Match": etag}).status_code == 304
    succeed(case_id)
    assert clinic_visitor.get("/cases", headers={"If-None-Match": etag}).status_code == 200


def test_beside_a_suggestion_in_a_list_stands_whether_there_are_warnings_and_once_that_routine_is_no_all_clear(
    clinic_visitor, reviewer_visitor, clinic, succeed
):
    for reference, warnings in (("doubtful", ("not_dermoscopic",)), ("plain", ())):
        succeed(clinic.submit(reference=reference).json["id"], warnings=warnings)
    for page in (clinic_visitor.get("/cases").text, reviewer_visitor.get("/worklist").text):
        rows = {name: words_of(page.partition(f">{name}<")[2].partition("</tr>")[0]) for name in ("doubtful", "plain")}
        assert ["Refer Warnings" in rows["doubtful"], "Warnings" in rows["plain"]] == [True, False]
        assert words_of(page).count(f"{NOTICE} {NO_ALL_CLEAR}") == 1


def test_the_list_has_pages_and_filters(clinic_visitor, clinic):
    for number in range(3):
        clinic.submit(reference=f"mole-{number}")
    first = clinic_visitor.get("/cases?limit=2&state=queued").text
    following = unescape(re.search(r'href="/app(/cases\?[^"]*cursor[^"]*)"', first)[1])
    second = clinic_visitor.get(following).text
    assert [[number for number in range(3) if f">mole-{number}<" in page] for page in (first, second)] == [[1, 2], [0]]
    assert "No cases match these filters. Send" in words_of(clinic_visitor.get("/cases?state=failed").text)
    part = words_of(clinic_visitor.get("/cases?reference=mole").text)
    assert "No cases match these filters. A reference must be given in full, exactly as it was sent." in part
    assert clinic_visitor.get("/cases?state=nonsense").status_code == 400


def test_a_case_is_cancelled_or_after_a_question_erased(clinic_visitor, clinic, stored_keys):
    case_id = clinic.submit(reference="mole").json["id"]
    led = clinic_visitor.post(f"/cases/{case_id}/cancel")
    assert "Cancelled" in clinic_visitor.client.get(led.location).text
    assert clinic_visitor.post(f"/cases/{case_id}/cancel").status_code == 409
    assert "permanently deleted" in clinic_visitor.get(f"/cases/{case_id}/erase").text
    assert stored_keys(clinic)
    assert clinic_visitor.post(f"/cases/{case_id}/erase").location == "/app/cases"
    assert clinic_visitor.get(f"/cases/{case_id}").status_code == 404
    assert stored_keys(clinic) == []
