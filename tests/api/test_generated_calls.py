"""Calls that schemathesis makes up from the OpenAPI document, good and bad: every answer is one that it describes."""

import os
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest
from flask import Flask, Response, request
from werkzeug.routing import Rule

from shared.domain import Role
from tests.api.calls import activate_model, work_off_older_half
from tests.api.ways_in import send_form
from tests.servers.serving import serving_app

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = (sys.executable, str(Path(sysconfig.get_path("scripts")) / "schemathesis"))
SHORT = ("--max-examples", "20", "--generation-deterministic")
FULL = ("--max-examples", "300", "--continue-on-failure")
ANALYSED_EVERY = 5
"""After so many calls, half of what waits is analysed: results, heatmaps and failed cases come to be, and the newest
cases can still be cancelled."""

# PostgreSQL refuses more than SQLite does.
pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def app(open_app) -> Flask:
    return open_app(wrong_keys_per_minute=10**9)


@pytest.fixture
def calls(app, database, store) -> Counter[tuple[str, int]]:
    """How often each operation gave each status. Behind the app, cases are analysed and uploads are filled."""
    calls = Counter()
    activate_model(database)

    @app.after_request
    def count(response: Response) -> Response:
        calls[f"{request.method} {path_of(request.url_rule)}", response.status_code] += 1
        if request.endpoint == "uploads.open_upload" and response.status_code == 201:
            send_form(response.json)
        if calls.total() % ANALYSED_EVERY == 0:
            work_off_older_half(database, store)
        return response

    return calls


@pytest.fixture
def keys(clinic, reviewer, admin) -> dict[Role, str]:
    return {Role.CLINIC: clinic.key, Role.REVIEWER: reviewer.key, Role.ADMIN: admin.key}


def path_of(rule: Rule | None) -> str:
    """Return a route's path as the document writes it."""
    return re.sub(r"<(\w+)>", r"{\1}", str(rule))


def roles_of_operations(app: Flask) -> dict[str, tuple[Role, ...]]:
    """Return who may call each operation that asks for a key."""
    return {
        f"{method} {path_of(rule)}": app.view_functions[rule.endpoint].roles
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }


@pytest.mark.parametrize("role", Role)
def test_every_answer_is_one_that_the_document_describes(app, calls, clinic, keys, role, tmp_path, pytestconfig):
    for _ in range(20):
        clinic.submit()
    calls.clear()
    roles = roles_of_operations(app)
    options = FULL
    if not pytestconfig.getoption("--full"):
        options = [*SHORT, *(f"--exclude-name={name}" for name in roles if role not in roles[name])]
    with serving_app(app) as url:
        command = (*SCHEMATHESIS, "run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {keys[role]}")
        run = subprocess.run(
            (*command, "--checks=all", "--no-color", *options),
            env=os.environ | {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.api.generation"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    print(f"{calls.total()} calls", *(f"{name} {status}: {n}" for (name, status), n in sorted(calls.items())), sep="\n")
    assert run.returncode == 0, run.stdout + run.stderr
    succeeded = {name for name, status in calls if status < 300}
    vain = sorted(name for name in roles if role in roles[name] and name not in succeeded)
    assert not vain, f"No call of {vain} was answered with success."
