"""The pages as somebody who signed in sees them: without a browser, or in Chromium."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import BrowserContext, ConsoleMessage, Page
from werkzeug.test import TestResponse

from api.pages import portable
from tests.api.calls import Api
from tests.browsing import enter_key
from tests.servers.serving import serving_app


@dataclass(frozen=True)
class Visitor:
    """A browser without scripts, signed in with one key."""

    client: FlaskClient
    token: str

    def get(self, address: str, **options) -> TestResponse:
        return self.client.get(f"/app{address}", **options)

    def post(self, address: str, fields: dict | None = None, **options) -> TestResponse:
        return self.client.post(f"/app{address}", data={"csrf_token": self.token} | (fields or {}), **options)


@pytest.fixture
def sign_in(app) -> Callable[[Api], Visitor]:
    """Sign somebody in, in a browser of their own."""

    def enter(api: Api) -> Visitor:
        client = app.test_client()
        answer = client.post("/app/sign-in", data={"key": api.key})
        assert answer.status_code == 303, answer.text
        return Visitor(client, re.search('name="csrf_token" value="(.*?)"', client.get("/app/model").text)[1])

    return enter


@pytest.fixture
def clinic_visitor(sign_in, clinic) -> Visitor:
    return sign_in(clinic)


@pytest.fixture
def reviewer_visitor(sign_in, reviewer) -> Visitor:
    return sign_in(reviewer)


@pytest.fixture
def served(app: Flask) -> Iterator[str]:
    """The address of the app, for browsers."""
    with serving_app(app) as address:
        yield address


@pytest.fixture
def meant() -> list[str]:
    """Too late; a proxy without its service; a request that a test has cut off. A test adds what else it provokes."""
    return ["status of 412", "status of 502", "status of 504", "net::ERR_FAILED"]


@pytest.fixture
def open_page(browser, served, meant) -> Iterator[Callable[..., Page]]:
    """Open pages, each in a window of its own, signed in; at the end nothing may have gone wrong in any of them."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_one(api: Api, **options) -> Page:
        contexts.append(browser.new_context(base_url=served, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if _is_fault(said, meant) else None)
        enter_key(page, api.key)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert faults == []


def _is_fault(said: ConsoleMessage, meant: list[str]) -> bool:
    """Tell errors of scripts, of the policy and of loading from answers that are meant."""
    is_meant = any(words in said.text for words in meant) or said.location["url"].endswith(portable.MODEL)
    return said.type == "error" and not is_meant


@pytest.fixture
def analysed(clinic, succeed) -> str:
    """The id of a case with a result."""
    case_id = clinic.submit(reference="mole-1").json["id"]
    succeed(case_id)
    return case_id
