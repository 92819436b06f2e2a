"""An admin's pages."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from shared.database import read_clock
from shared.store import trail
from shared.store.trail import Actor
from shared.tables import CaseRow
from tests.api.calls import Api, record_problem
from tests.api.pages.conftest import Visitor

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def visitor(sign_in, admin) -> Visitor:
    return sign_in(admin)


def words_of(page: str) -> str:
    return " ".join(unescape(re.sub("<[^>]*>", " ", page)).split())


def test_the_queue_is_told_in_numbers_and_drawn_by_the_hour(visitor, clinic, succeed):
    assert visitor.get("").location == "/app/queue"
    for _ in range(2):
        clinic.submit()
    succeed(clinic.submit().json["id"])
    page = visitor.get("/queue?minutes=45&hours=6").text
    said = words_of(page)
    assert "Waiting 2 Running 0" in said
    assert "Workers needed (45 min) not measured yet" in said
    assert said.count(" 0 0 0 0.0 0.0") == 5  # the hours in which nothing ended
    assert len(re.findall('<rect class="succeeded"', page)) == 1
    assert "No worker has been seen" in said
    assert visitor.get("/queue?minutes=0").status_code == 400


def test_a_failed_case_is_given_another_try(visitor, clinic, database):
    case_id = clinic.submit().json["id"]
    record_problem(database, case_id)
    assert "The analysis failed. A person must look at this case. analysis_failed" in words_of(
        visitor.get("/failed").text
    )
    assert visitor.post(f"/failed/{case_id}/requeue").location == "/app/failed"
    assert clinic.get(f"/v1/cases/{case_id}").json["state"] == "queued"
    assert visitor.post(f"/failed/{case_id}/requeue").status_code == 409


def test_failed_cases_have_pages(visitor, clinic, database):
    failed = [clinic.submit().json["id"] for _ in range(3)]
    for case_id in failed:
        record_problem(database, case_id)
    first = visitor.get("/failed?limit=2").text
    following = unescape(re.search(r'href="/app(.*?)">Older cases', first)[1])
    second = visitor.get(following).text
    shown = [re.findall(r"<code>([0-9a-f-]{36})</code>", page) for page in (first, second)]
    assert shown == [failed[:0:-1], failed[:1]]
    assert "Older cases" not in second
    again = re.search(r'action="/app(/failed/.*?)"', second)[1]
    emptied = visitor.get(visitor.post(unescape(again)).location.removeprefix("/app")).text
    assert "No older failed cases." in emptied


def test_a_clinic_is_added_with_limits_and_keys_of_which_each_is_seen_once(visitor, client):
    assert visitor.post("/access/clinics", {"name": "Clinic North"}).status_code == 303
    again = visitor.post("/access/clinics", {"name": "Clinic North"})
    assert (again.status_code, "There is already a clinic named" in again.text) == (409, True)
    (clinic_id,) = re.findall("/access/clinics/([0-9a-f-]+)", visitor.get("/access").text)
    visitor.post(f"/access/clinics/{clinic_id}", {"waiting_limit": "7", "retention_days": ""})
    assert 'name="waiting_limit" type="number" min="1" value="7"' in visitor.get("/access").text
    made = visitor.post("/access/keys", {"role": "clinic", "clinic_id": clinic_id, "days": "30"})
    (key,) = re.findall(r"<code>(dq_\w+_[\w-]+)</code>", made.text)
    assert client.get("/v1/cases", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert key not in visitor.get("/access").text


@pytest.fixture
def set_limits(visitor, clinic) -> Callable[[str, dict], TestResponse]:
    """Send a clinic's form as it stood on a page that was loaded earlier, with these fields filled in anew."""

    def send(page: str, **fields: str) -> TestResponse:
        (form,) = re.findall(f'action="/app/access/clinics/{clinic.id}">(.*?)</form>', page, re.DOTALL)
        shown = dict(re.findall(r'name="((?:was_)?(?:waiting_limit|retention_days))".*? value="(.*?)"', form))
        assert len(shown) == 4
        return visitor.post(f"/access/clinics/{clinic.id}", shown | fields)

    return send


def limits_of(admin) -> tuple[int | None, int | None]:
    (clinic,) = admin.get("/v1/admin/clinics").json["clinics"]
    return clinic["waiting_limit"], clinic["retention_days"]


def test_a_form_changes_only_what_was_changed_in_it(visitor, admin, set_limits):
    set_limits(visitor.get("/access").text, retention_days="30", confirmed="yes")
    old = visitor.get("/access").text
    set_limits(old, retention_days="")
    assert set_limits(old, waiting_limit="500").location == "/app/access"
    assert limits_of(admin) == (500, None)
    assert set_limits(old).location == "/app/access"
    assert limits_of(admin) == (500, None)


def test_a_shorter_retention_is_set_after_a_question_that_says_what_will_be_erased(
    visitor, admin, set_limits, clinic, database
):
    for _ in range(2):
        record_problem(database, clinic.submit().json["id"])
    with database.writing() as session:
        long_ago = read_clock(session) - timedelta(days=31)
        session.execute(update(CaseRow).values(finished_at=long_ago))
    clinic.submit()
    asked = set_limits(visitor.get("/access").text, waiting_limit="500", retention_days="30")
    assert "They are currently kept indefinitely." in words_of(asked.text)
    assert "finished more than 30 days ago: 2 at the next purge" in words_of(asked.text)
    assert limits_of(admin) == (None, None)
    answer = dict(re.findall(r'type="hidden" name="(.*?)" value="(.*?)"', asked.text.partition("<section")[2]))
    assert visitor.post(f"/access/clinics/{clinic.id}", answer).location == "/app/access"
    assert limits_of(admin) == (500, 30)
    longer = set_limits(visitor.get("/access").text, retention_days="90")
    assert (longer.status_code, limits_of(admin)) == (303, (500, 90))
    assert "currently kept for 90 days" in words_of(set_limits(visitor.get("/access").text, retention_days="89").text)
    assert set_limits(visitor.get("/access").text, retention_days="0").status_code == 400
    assert limits_of(admin) == (500, 90)


def test_before_a_clinics_key_is_revoked_the_page_says_that_webhooks_stay(visitor, admin, clinic, reviewer):
    ids = {key["prefix"]: key["id"] for key in admin.get("/v1/admin/keys").json["keys"]}
    asked = [visitor.get(f"/access/keys/{ids[api.key.split('_')[1]]}/revoke").text for api in (clinic, reviewer)]
    assert ["webhooks that they added stay" in text for text in asked] == [True, False]


@pytest.mark.parametrize(
    ("action", "fields", "status", "state"),
    [("revoke", {}, 303, "Revoked"), ("rotate", {"overlap_days": "0"}, 200, "Expired")],
)
def test_a_key_is_ended_or_replaced(visitor, reviewer, action, fields, status, state):
    prefix = reviewer.key.split("_")[1]

    def row() -> str:
        return visitor.get("/access").text.partition(f"<code>{prefix}</code>")[2].partition("</tr>")[0]

    key_id = re.search(f"/access/keys/([0-9a-f-]+)/{action}", row())[1]
    asked = visitor.get(f"/access/keys/{key_id}/{action}")
    assert prefix in asked.text
    assert reviewer.get("/v1/cases").status_code == 200  # nothing is done before the question is answered
    changed = visitor.post(f"/access/keys/{key_id}/{action}", fields)
    assert changed.status_code == status
    assert reviewer.get("/v1/cases").status_code == 401
    assert (state in words_of(row()), "/access/keys/" in row()) == (True, False)
    for new in re.findall(r"<code>(dq_\w+_[\w-]+)</code>", changed.text):
        assert Api(reviewer.client, new).get("/v1/cases").status_code == 200


def test_a_new_key_in_place_of_an_old_one_may_end_too(visitor, reviewer, rows):
    (old,) = [row for row in rows("api_keys") if row.prefix == reviewer.key.split("_")[1]]
    visitor.post(f"/access/keys/{old.id}/rotate", {"overlap_days": "0", "days": "30"})
    newest = max(rows("api_keys"), key=lambda row: row.created_at)
    assert (newest.role, newest.expires_at is not None) == ("reviewer", True)
    told = visitor.post(f"/access/keys/{old.id}/rotate", {"days": "0"})
    assert (told.status_code, "greater than or equal to 1" in told.text) == (400, True)


def test_the_trail_is_read_page_by_page_and_case_by_case(visitor, clinic):
    first, second = (clinic.submit().json["id"] for _ in range(2))
    page = visitor.get("/audit?limit=1").text
    assert words_of(page).count("case.submitted") == 1
    assert first[:8] in visitor.get("/audit" + re.search(r'href="(\?before=\d+)', page)[1]).text
    of_second = visitor.get(f"/audit?case_id={second}").text
    assert second[:8] in of_second
    assert first[:8] not in of_second


def test_the_trail_names_who_did_it_as_the_page_of_clinics_and_keys_does(visitor, admin, clinic, reviewer, database):
    case_id = clinic.submit().json["id"]
    reviewer.get(f"/v1/cases/{case_id}/image")
    unknown = uuid4()
    with database.writing() as session:
        trail.audit(session, Actor("admin", unknown), "key.added", [None], read_clock(session))
    (name,) = [each["name"] for each in admin.get("/v1/admin/clinics").json["clinics"]]
    clinics, reviewers = (api.key.split("_")[1] for api in (clinic, reviewer))
    told = re.findall('data-label="Actor">(.*?)</td>', visitor.get("/audit").text, re.DOTALL)
    assert [words_of(actor) for actor in told] == [
        f"admin {str(unknown)[:8]}",
        f"reviewer {reviewers}",
        f"clinic {clinics} {name}",
    ]
