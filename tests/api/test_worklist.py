"""The worklist and the reviews as reviewers use them, alone and at the same time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from shared.domain import Role
from shared.service_tables import OpeningRow
from tests.api.calls import Api, activate_model, read_list, read_problem, record_problem, work_off_older_half
from tests.factories import add_case, add_key

AGREE = {"verdict": "agree", "label": "melanoma", "note": "Refer today.\nCalled the clinic."}
DISAGREE = {"verdict": "disagree", "label": "other"}
FIRST = {"If-None-Match": "*"}


@pytest.fixture
def colleague(client, database) -> Api:
    return Api(client, add_key(database, Role.REVIEWER))


@pytest.fixture
def case(clinic, succeed) -> str:
    """The address of a case that has a result."""
    answer = clinic.submit()
    succeed(answer.json["id"])
    return answer.headers["Location"]


def review(reader: Api, address: str, sent: dict = AGREE, **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()} or FIRST
    return reader.call("PUT", f"{address}/review", named, json=sent)


def prefix_of(reader: Api) -> str:
    return reader.key.split("_")[1]


def test_the_list_shows_a_case_with_its_clinic_and_its_result(reviewer, clinic, case, database):
    answer = reviewer.get("/v1/worklist")
    (found,) = read_list(answer)
    assert (found["links"]["self"], found["clinic"]["id"]) == (case, str(clinic.id))
    assert found["clinic"] in reviewer.get("/v1/worklist/clinics").json["clinics"]
    assert found["result"] == reviewer.get(case).json["result"]
    assert (found["reviewed"], found["open_with"], answer.json["count"]) == (False, [], 1)


def test_the_next_links_lead_through_the_whole_list_once(reviewer, clinic, database, store):
    activate_model(database)
    for _ in range(10):
        add_case(database, clinic.id)
    work_off_older_half(database, store)
    whole = [found["id"] for found in read_list(reviewer.get("/v1/worklist"))]
    walked, address = [], "/v1/worklist?limit=2&reviewed=false"
    while address:
        answer = reviewer.get(address)
        page = [found["id"] for found in read_list(answer)]
        assert page  # no link leads to an empty one
        walked += page
        assert answer.json["count"] == 5
        address = answer.headers.get("Link", "<>").split(">")[0][1:]
    assert walked == whole
    assert len(set(whole)) == 5


@pytest.mark.parametrize(
    "asked",
    [
        "cursor=x",
        "cursor=WzMsMSwxXQ",
        "state=queued",
        "clinic_id=7",
        "submitted_from=2026-03-01",
        "submitted_before=9999-12-31T23:59:59-01:00",
        "limit=0",
        "colour=red",
    ],
)
def test_a_question_that_makes_no_sense_is_refused(reviewer, asked):
    read_problem(reviewer.get(f"/v1/worklist?{asked}"), 400)


def test_what_the_list_has_shown_is_on_record_once(reviewer, case, rows):
    for _ in range(2):
        reviewer.get("/v1/worklist")
    assert [row.action for row in rows("audit_events")][1:] == ["case.read"]


def test_a_review_is_kept_and_takes_the_case_off_the_list(reviewer, case):
    answer = review(reviewer, case)
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"1"')
    read = reviewer.get(f"{case}/review")
    assert (read.json["review"], read.json["earlier"], read.headers["ETag"]) == (answer.json, [], '"1"')
    assert answer.json | AGREE | {"version": 1, "reviewer": prefix_of(reviewer)} == answer.json
    assert read_list(reviewer.get("/v1/worklist")) == []
    assert [found["reviewed"] for found in read_list(reviewer.get("/v1/worklist?reviewed=true"))] == [True]


def test_a_change_keeps_what_was_said_before_and_both_are_on_record(reviewer, colleague, case, rows):
    first = review(reviewer, case, If_Match='"0"')
    second = review(colleague, case, DISAGREE, If_Match=first.headers["ETag"])
    assert second.json["version"] == 2
    read = reviewer.get(f"{case}/review").json
    assert (read["review"], read["earlier"]) == (second.json, [first.json])
    assert [row.action for row in rows("audit_events")][1:] == ["review.agree", "review.disagree"]


def test_whoever_is_slower_is_told_and_overwrites_nothing(reviewer, colleague, case, rows):
    standing = review(reviewer, case).json
    for late in (FIRST, {"If-Match": '"0"'}, {"If-Match": '"2"'}):
        answer = colleague.call("PUT", f"{case}/review", late, json=DISAGREE)
        assert read_problem(answer, 412)["code"] == "review_changed"
    assert reviewer.get(f"{case}/review").json == {"review": standing, "earlier": []}
    assert [row.action for row in rows("audit_events")][1:] == ["review.agree"]


def test_of_reviewers_who_send_at_the_same_moment_one_wins(app, reviewer, case):
    readers = [Api(app.test_client(), reviewer.key) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        answers = threads.map(lambda reader, note: review(reader, case, AGREE | {"note": note}), readers, "abcd")
        statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 412, 412, 412]


def test_a_review_that_is_sent_twice_stands_once(reviewer, colleague, case, rows):
    first, second = (review(reviewer, case) for _ in range(2))
    assert (second.status_code, second.json) == (200, first.json)
    assert reviewer.get(f"{case}/review").json == {"review": first.json, "earlier": []}
    assert [row.action for row in rows("audit_events")][1:] == ["review.agree"]
    assert read_problem(review(colleague, case), 412)["code"] == "review_changed"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Accept": "*/*"}, 428, "precondition_missing"),
        ({"If-Match": ""}, 428, "precondition_missing"),
        ({"If-Match": "*"}, 400, "field_invalid"),
        ({"If-Match": 'W/"1"'}, 400, "field_invalid"),
        ({"If-None-Match": '"1"'}, 400, "field_invalid"),
        ({"If-Match": '"0"', "If-None-Match": "*"}, 400, "precondition_malformed"),
    ],
)
def test_a_review_must_say_what_it_replaces(reviewer, case, headers, status, code):
    answer = reviewer.call("PUT", f"{case}/review", headers, json=AGREE)
    assert read_problem(answer, status)["code"] == code
    assert reviewer.get(f"{case}/review").json["review"] is None


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"verdict": "maybe"},
        {"verdict": "agree", "label": "wart"},
        {"verdict": "agree", "note": "\0"},
        {"verdict": "agree", "note": "x" * 2001},
        {"verdict": "agree", "mood": "good"},
    ],
)
def test_a_review_that_makes_no_sense_is_refused(reviewer, case, sent):
    read_problem(review(reviewer, case, sent), 400)


def test_a_failed_case_can_be_reviewed_and_a_waiting_one_cannot(reviewer, clinic, database):
    waiting, failed = clinic.submit(), clinic.submit()
    record_problem(database, failed.json["id"])
    assert review(reviewer, failed.headers["Location"], DISAGREE).status_code == 200
    assert read_problem(review(reviewer, waiting.headers["Location"]), 409)["code"] == "case_not_reviewable"


def test_a_failed_case_that_is_analysed_again_must_be_reviewed_again(reviewer, admin, clinic, succeed, database):
    failed = clinic.submit()
    case_id, address = failed.json["id"], failed.headers["Location"]
    record_problem(database, case_id)
    review(reviewer, address, DISAGREE)
    admin.call("POST", f"/v1/admin/failed/{case_id}/requeue")
    succeed(case_id)
    assert [found["id"] for found in read_list(reviewer.get("/v1/worklist"))] == [case_id]
    seen = reviewer.get(f"{address}/review")
    assert (seen.json["review"], [old["verdict"] for old in seen.json["earlier"]]) == (None, ["disagree"])
    for late in (FIRST, {"If-Match": '"0"'}, {"If-Match": '"1"'}):  # written before the requeue
        answer = reviewer.call("PUT", f"{address}/review", late, json=AGREE)
        assert read_problem(answer, 412)["code"] == "review_changed"
    answer = review(reviewer, address, If_Match=seen.headers["ETag"])
    assert reviewer.get(f"{address}/review").json == {"review": answer.json, "earlier": seen.json["earlier"]}


def test_who_had_a_failed_case_before_them_says_nothing_of_a_result_that_they_have_not_seen(
    reviewer, admin, clinic, succeed, database
):
    failed = clinic.submit()
    case_id, address = failed.json["id"], failed.headers["Location"]
    record_problem(database, case_id)
    seen = reviewer.get(f"{address}/review").headers["ETag"]
    admin.call("POST", f"/v1/admin/failed/{case_id}/requeue")
    succeed(case_id)
    assert read_problem(review(reviewer, address, If_Match=seen), 412)["code"] == "review_changed"
    assert reviewer.get(f"{address}/review").json == {"review": None, "earlier": []}


def test_deleting_a_case_takes_what_was_said_of_it_along(reviewer, clinic, case, rows):
    review(reviewer, case)
    reviewer.call("POST", f"{case}/open")
    clinic.call("DELETE", case)
    read_problem(reviewer.get(f"{case}/review"), 404)
    assert rows("reviews", "openings") == []


def test_the_second_who_opens_a_case_is_told_and_not_kept_from_it(reviewer, colleague, case):
    assert reviewer.call("POST", f"{case}/open").json == {"open_with": []}
    for _ in range(2):
        assert colleague.call("POST", f"{case}/open").json == {"open_with": [prefix_of(reviewer)]}
    assert [found["open_with"] for found in read_list(colleague.get("/v1/worklist"))] == [[prefix_of(reviewer)]]
    assert review(colleague, case).status_code == 200
    assert reviewer.call("POST", f"{case}/open").json == {"open_with": []}


@pytest.mark.parametrize(("minutes", "is_named"), [(9, True), (11, False)])
def test_who_opened_a_case_more_than_ten_minutes_ago_is_not_named(
    reviewer, colleague, case, database, rows, minutes, is_named
):
    reviewer.call("POST", f"{case}/open")
    with database.writing() as session:
        session.query(OpeningRow).one().seen_at -= timedelta(minutes=minutes)
    named = [prefix_of(reviewer)] if is_named else []
    assert [found["open_with"] for found in read_list(colleague.get("/v1/worklist"))] == [named]
    assert colleague.call("POST", f"{case}/open").json == {"open_with": named}
    assert len(rows("openings")) == 1 + is_named
