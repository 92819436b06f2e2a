"""The API's figures: who may read them, and whether they are right."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import update

from api import metrics
from shared.database import read_clock
from shared.service_tables import DeliveryRow
from shared.store import queue, webhooks, workers
from shared.store.workers import Worker
from shared.tables import CaseRow
from tests.api.calls import JPEG, File, record_problem
from tests.shared.steps import MODEL, load_model

TOKEN = SecretStr("a-token-for-prometheus")
BEARER = {"Authorization": f"Bearer {TOKEN.get_secret_value()}"}


def read_figures(answer) -> dict[tuple, float]:
    """Return the samples by name and labels, the labels in the order of their names."""
    assert answer.status_code == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.fixture(autouse=True)
def _read_the_queue_every_time(monkeypatch):
    monkeypatch.setattr(metrics, "_QUEUE_READ_EVERY_S", -1)


def rise(admin, act) -> dict[tuple, float]:
    """Return by how much each figure has risen after `act`."""
    before = read_figures(admin.get("/metrics"))
    act()
    return {key: value - before.get(key, 0) for key, value in read_figures(admin.get("/metrics")).items()}


def test_the_token_of_the_settings_opens_the_figures_and_nothing_else(open_app):
    client = open_app(metrics_token=TOKEN).test_client()
    assert client.get("/metrics", headers=BEARER).status_code == 200
    assert client.get("/v1/admin/queue", headers=BEARER).status_code == 401
    assert client.get("/metrics", headers={"Authorization": BEARER["Authorization"] + "x"}).status_code == 401
    assert client.get("/metrics").status_code == 401


@pytest.mark.parametrize("bearer", ["", "None", "**********", BEARER["Authorization"].removeprefix("Bearer ")])
def test_without_a_token_in_the_settings_no_token_opens_the_figures(client, bearer):
    assert client.get("/metrics", headers={"Authorization": f"Bearer {bearer}"}).status_code == 401


def test_of_all_keys_only_an_admins_opens_the_figures(client, clinic, reviewer, admin, revoked):
    answers = [who.get("/metrics").status_code for who in (clinic, reviewer, admin, revoked)]
    assert [*answers, client.get("/metrics").status_code] == [403, 403, 200, 401, 401]


def test_how_long_a_wrong_token_is_refused_for_does_not_tell_how_much_of_it_is_right(open_app, monkeypatch):
    client = open_app(metrics_token=TOKEN).test_client()
    compared = []
    monkeypatch.setattr(metrics, "compare_digest", lambda *both: compared.append(both) or False)
    assert client.get("/metrics", headers=BEARER).status_code == 401
    assert compared == [(TOKEN.get_secret_value().encode(),) * 2]


def test_who_tries_tokens_has_to_pause(open_app):
    client = open_app(metrics_token=TOKEN, wrong_keys_per_minute=2).test_client()
    tried = [client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code for _ in range(3)]
    assert tried == [401, 401, 429]


def test_what_waits_and_runs_is_told_by_state_and_clinic_and_the_idle_count_nothing(
    clinic, other_clinic, admin, database
):
    for _ in range(3):
        assert clinic.submit().status_code == 202
    with database.writing() as session:
        queue.claim_cases(session, 1, 60, read_clock(session))
    figures = read_figures(admin.get("/metrics"))
    counts = [
        figures["dermqueue_cases", str(who.id), state]
        for who in (clinic, other_clinic)
        for state in ("queued", "running")
    ]
    assert counts == [2, 1, 0, 0]
    oldest = [figures["dermqueue_oldest_case_seconds", str(clinic.id), state] for state in ("running", "queued")]
    assert 60 > oldest[0] > oldest[1] > 0
    assert figures["dermqueue_oldest_case_seconds", str(other_clinic.id), "queued"] == 0
    assert figures["dermqueue_workers",] == 0


def test_only_workers_that_are_alive_count_and_what_they_analyse_is_summed(admin, database):
    load_model(database)
    with database.writing() as session:
        now = read_clock(session)
        for name, rate, ago_s in (("one", 90.0, 0), ("other", 60.0, 0), ("new", None, 0), ("dead", 500.0, 3600)):
            worker = Worker(uuid4(), name, "cpu", 16, MODEL, rate)
            workers.note_worker(session, worker, now - timedelta(seconds=ago_s))
    figures = read_figures(admin.get("/metrics"))
    assert (figures["dermqueue_workers",], figures["dermqueue_images_per_minute",]) == (3, 150)


def test_what_beats_clock_should_have_started_is_told_by_how_long_it_has_been_due(clinic, admin, database):
    def due() -> list[float]:
        figures = read_figures(admin.get("/metrics"))
        return [figures["dermqueue_chore_due_seconds", chore] for chore in ("message", "erasure")]

    cancelled, deleted = (clinic.submit().json["id"] for _ in range(2))
    assert due() == [0, 0]
    with database.writing() as session:
        webhooks.add_webhook(session, clinic.id, "https://clinic.example/hook", read_clock(session))
    assert clinic.call("POST", f"/v1/cases/{cancelled}/cancel").status_code == 202
    assert clinic.call("DELETE", f"/v1/cases/{deleted}").status_code == 202
    with database.writing() as session:
        hour_ago = read_clock(session) - timedelta(hours=1)
        session.execute(update(DeliveryRow).values(due_at=hour_ago))
        session.execute(update(CaseRow).where(CaseRow.id == UUID(deleted)).values(deleted_at=hour_ago))
    assert due() == pytest.approx([3600, 3600], abs=60)


def test_a_failed_case_counts_until_it_is_reviewed_or_analysed_again(clinic, reviewer, admin, database):
    def failed() -> float:
        return read_figures(admin.get("/metrics"))["dermqueue_failed_cases",]

    reviewed, requeued = (clinic.submit().json["id"] for _ in range(2))
    assert failed() == 0
    for case_id in (reviewed, requeued):
        record_problem(database, case_id)
    assert failed() == 2
    assert admin.call("POST", f"/v1/admin/failed/{requeued}/requeue").status_code == 202
    assert failed() == 1
    review = reviewer.call("PUT", f"/v1/cases/{reviewed}/review", {"If-None-Match": "*"}, json={"verdict": "disagree"})
    assert review.status_code == 200
    assert failed() == 0


def test_no_figure_names_a_clinic(clinic, admin):
    clinic.submit()
    text = admin.get("/metrics").text
    assert str(clinic.id) in text
    assert "Clinic" not in text


def test_accepted_and_refused_cases_are_counted_also_those_of_submissions(clinic, admin):
    def act() -> None:
        assert clinic.submit().status_code == 202
        assert clinic.submit(b"no photograph").status_code == 415
        fields = {"image": [File(JPEG), File(b"no photograph")]}
        assert clinic.submit_form(fields, address="/v1/submissions").status_code == 202

    risen = rise(admin, act)
    assert risen["dermqueue_cases_accepted_total", str(clinic.id)] == 2
    assert risen["dermqueue_refusals_total", "image_type_unsupported"] == 2


def test_requests_are_counted_by_route_and_not_by_address(clinic, admin):
    def act() -> None:
        for name in ("one", "other"):
            assert clinic.get(f"/v1/cases/{name}").status_code == 404
            assert clinic.get(f"/{name}").status_code == 404
        clinic.call("BREW", "/v1/cases")

    risen = rise(admin, act)
    assert risen["dermqueue_http_requests_total", "GET", "/v1/cases/<case_id>", "404"] == 2
    assert risen["dermqueue_http_requests_total", "GET", "none", "404"] == 2
    assert risen["dermqueue_http_requests_total", "other", "none", "405"] == 1
    assert risen["dermqueue_http_request_seconds_count", "GET", "/v1/cases/<case_id>"] == 2


def test_a_database_that_is_away_is_a_figure_and_hides_no_other(open_app, dead_database_url):
    client = open_app(database_url=dead_database_url, metrics_token=TOKEN).test_client()
    assert client.get("/healthz").status_code == 200
    figures = read_figures(client.get("/metrics", headers=BEARER))
    assert figures["dermqueue_database_up",] == 0
    assert figures["dermqueue_http_requests_total", "GET", "/healthz", "200"] >= 1


def test_the_queue_is_read_only_now_and_then_however_often_it_is_asked_for(clinic, admin, monkeypatch):
    key = "dermqueue_cases", str(clinic.id), "queued"
    assert read_figures(admin.get("/metrics"))[key] == 0
    monkeypatch.setattr(metrics, "_QUEUE_READ_EVERY_S", 3600)
    clinic.submit()
    assert read_figures(admin.get("/metrics"))[key] == 0
    monkeypatch.setattr(metrics, "_QUEUE_READ_EVERY_S", -1)
    assert read_figures(admin.get("/metrics"))[key] == 1
