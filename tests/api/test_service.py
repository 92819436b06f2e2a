"""Health, the model's card, and the guard on every route."""

import re

import pytest

from tests.api.calls import MANIFEST, MODEL_DIGEST, activate_model, read_problem

EVERY_ROLE = ["clinic", "reviewer", "admin"]


def test_a_living_process_says_so_even_when_all_else_is_away(open_app, dead_database_url, nowhere):
    app = open_app(
        database_url=dead_database_url, broker_url=f"redis://{nowhere}/0", s3_endpoint_url=f"http://{nowhere}"
    )
    answer = app.test_client().get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "alive"})


def test_with_everything_there_cases_can_be_taken(client):
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json == {"status": "ready", "sql": True, "s3": True, "broker": True}


def test_without_the_broker_cases_can_still_be_taken(open_app, nowhere):
    answer = open_app(broker_url=f"redis://{nowhere}/0").test_client().get("/readyz")
    assert answer.status_code == 200
    assert answer.json == {"status": "degraded", "sql": True, "s3": True, "broker": False}


def test_with_a_wrong_password_the_broker_counts_as_away(open_app, servers):
    wrong = re.sub(r":[^:@/]+@", ":wrong@", servers["broker_url"])
    assert wrong != servers["broker_url"]
    assert open_app(broker_url=wrong).test_client().get("/readyz").json["status"] == "degraded"


def test_without_the_object_store_no_case_can_be_taken(open_app, nowhere):
    answer = open_app(s3_endpoint_url=f"http://{nowhere}").test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {"status": "unavailable", "sql": True, "s3": False, "broker": True}


def test_without_the_bucket_no_case_can_be_taken(open_app):
    answer = open_app(s3_bucket="no-such-bucket").test_client().get("/readyz")
    assert (answer.status_code, answer.json["s3"]) == (503, False)


def test_without_the_database_no_case_can_be_taken(open_app, dead_database_url):
    answer = open_app(database_url=dead_database_url).test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {"status": "unavailable", "sql": False, "s3": True, "broker": True}


def test_until_a_worker_has_loaded_a_model_there_is_none_to_tell_of(clinic):
    answer = clinic.get("/v1/models/current")
    assert read_problem(answer, 503)["code"] == "model_not_loaded"
    assert "Retry-After" in answer.headers


@pytest.mark.parametrize("role", EVERY_ROLE)
def test_everybody_with_a_key_reads_the_models_card(request, database, role):
    activate_model(database)
    answer = request.getfixturevalue(role).get("/v1/models/current")
    assert answer.status_code == 200
    assert answer.json["digest"] == MODEL_DIGEST
    assert answer.json["manifest"] == MANIFEST.model_dump(mode="json")
    assert answer.json["card"] == "# Made up"
    assert "Not a diagnosis" in answer.json["notice"]


def test_every_view_under_v1_says_who_may_call_it(app):
    views = {
        rule.endpoint: getattr(app.view_functions[rule.endpoint], "roles", ())
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/")
    }
    assert len(views) >= 8
    assert all(views.values()), views


def test_every_route_under_v1_is_closed_without_a_key(app, client):
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/v1/")]
    assert len(rules) >= 30
    for rule in rules:
        for method in rule.methods:
            answer = client.open(re.sub(r"<.*?>", "x", rule.rule), method=method)
            assert answer.status_code == 401, (method, rule.rule)


@pytest.mark.parametrize("role", EVERY_ROLE)
def test_a_view_that_names_no_role_is_closed_to_everybody(request, app, role, monkeypatch):
    monkeypatch.delattr(app.view_functions["models.read_current_model"], "roles")
    problem = read_problem(request.getfixturevalue(role).get("/v1/models/current"), 403)
    assert "it is for nobody" in problem["detail"]


def test_no_answer_is_guessed_at_or_kept_by_browsers(client):
    headers = client.get("/healthz").headers
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
