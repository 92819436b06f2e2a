"""What every answer tells a browser, whatever the answer is."""

import re

import pytest
from werkzeug.test import TestResponse

from tests.api.calls import Api, read_problem

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
NOT_A_PAGE = "default-src 'none'; frame-ancestors 'none'; sandbox"
PAGE = "/docs/swagger"

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def answers(clinic, client, app, succeed, monkeypatch) -> dict[str, TestResponse]:
    """One answer of every kind."""
    submitted = clinic.submit()
    succeed(submitted.json["id"])
    case = submitted.headers["Location"]

    def crash() -> None:
        raise RuntimeError

    monkeypatch.setitem(app.view_functions, "health.healthz", crash)
    return {
        "202": submitted,
        "case": clinic.get(case),
        "unchanged": clinic.get(case, headers={"If-None-Match": clinic.get(case).headers["ETag"]}),
        "list": clinic.get("/v1/cases"),
        "image": clinic.get(f"{case}/image"),
        "heatmap": clinic.get(f"{case}/heatmap"),
        "raw": clinic.get(f"{case}/heatmap?style=raw"),
        "400": clinic.submit(age="old"),
        "401": client.get("/v1/cases"),
        "404": client.get("/nowhere"),
        "405": client.put("/openapi.json"),
        "500": client.get("/healthz"),
        "redirect": client.get("/"),
        "description": client.get("/openapi.json"),
        "page": client.get(PAGE),
        "script": client.get("/docs/swagger/js/swagger-ui-bundle.js", buffered=True),
        "preflight": client.options("/v1/cases", headers={"Access-Control-Request-Method": "POST"}),
        "deleted": clinic.call("DELETE", case),
    }


def test_every_answer_of_whatever_kind_has_the_headers_and_no_cookie(answers):
    statuses = {name: answer.status_code for name, answer in answers.items()}
    assert {name: status for name, status in statuses.items() if name.isdigit() and int(name) != status} == {}
    assert (statuses["unchanged"], statuses["redirect"], statuses["script"]) == (304, 302, 200)
    for name, answer in answers.items():
        assert {header: answer.headers.get(header) for header in ALWAYS} == ALWAYS, name
        assert "Set-Cookie" not in answer.headers, name
        assert "Strict-Transport-Security" not in answer.headers, name
        assert (answer.headers["Content-Security-Policy"] == NOT_A_PAGE) == (name != "page"), name


def test_no_cache_keeps_an_answer_unless_the_case_says_that_it_is_checked_first(answers):
    checked_first = {"case", "unchanged"}
    for name in answers.keys() - {"script"}:
        kept = answers[name].headers["Cache-Control"]
        assert (kept == "private, no-cache") if name in checked_first else ("no-store" in kept), name


@pytest.mark.parametrize("address", ["/v1/cases", "/healthz", PAGE, "/nowhere"])
def test_no_other_sites_page_may_read_an_answer(clinic, address):
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    for method in ("GET", "OPTIONS"):
        answer = clinic.call(method, address, asked)
        assert [name for name in answer.headers.keys() if name.startswith("Access-Control-")] == []  # noqa: SIM118


def nonce_of(answer: TestResponse) -> str:
    """Return the nonce of the answer's policy, which names it for scripts and for styles."""
    (script,) = re.findall(r"script-src 'self' 'nonce-([\w-]+)';", answer.headers["Content-Security-Policy"])
    (style,) = re.findall(r"style-src 'self' 'nonce-([\w-]+)';", answer.headers["Content-Security-Policy"])
    assert script == style
    return script


def test_the_pages_own_scripts_and_styles_may_run_and_no_others(client):
    page = client.get(PAGE)
    inline = re.findall(r"<(script|style)\b((?:(?!src=)[^>])*)>", page.text)
    assert len(inline) >= 2
    assert {attributes.strip() for _, attributes in inline} == {f'nonce="{nonce_of(page)}"'}
    # What the policy would block: handlers and styles in attributes, anything from elsewhere.
    assert re.findall(r"<[^>]*\s(?:on\w+|style)=", page.text) == []
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page.text) == []
    assert "unsafe" not in page.headers["Content-Security-Policy"]


def test_every_page_has_a_nonce_of_its_own_that_nobody_guesses(client):
    nonces = {nonce_of(client.get(PAGE)) for _ in range(5)}
    assert len(nonces) == 5
    assert min(map(len, nonces)) >= 22  # 128 bits in base 64
    assert "nonce" not in client.get("/openapi.json").headers["Content-Security-Policy"]


def test_browsers_are_kept_to_tls_where_it_is_spoken_and_only_there(open_app, client):
    assert client.get("/healthz", base_url="https://dermqueue.example").headers["Strict-Transport-Security"] == (
        "max-age=63072000; includeSubDomains"
    )
    behind_tls = {"X-Forwarded-Proto": "https"}
    assert "Strict-Transport-Security" not in client.get("/healthz", headers=behind_tls).headers
    proxied = open_app(trusted_proxies=1).test_client()
    assert "Strict-Transport-Security" in proxied.get("/healthz", headers=behind_tls).headers
    assert "Strict-Transport-Security" not in proxied.get("/healthz").headers


def test_a_crash_is_an_answer_like_any_other(answers):
    assert read_problem(answers["500"], 500)["code"] == "internal_error"


def test_the_key_is_repeated_in_no_answer(clinic, answers):
    secret = clinic.key.split("_", 2)[2]
    wrong = Api(clinic.client, clinic.key[:-1]).get("/v1/cases")
    for answer in (*answers.values(), wrong):
        assert secret[:-1] not in answer.get_data(as_text=False).decode("latin-1") + str(answer.headers)
