"""The client is patient: for a while with a service that is away, and without end with one that has no room."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from click.testing import CliRunner
from rich.console import Console

from deploy import client as client_module
from deploy.cli import main
from deploy.client import Client, Connection, Refused, find_connection
from deploy.commands.photographs import SendingInterrupted, submit_files
from deploy.embedded.program import find_free_port
from deploy.stack import CONNECTION
from shared.errors import ConfigurationInvalid

TRIES = client_module._TRIES
NO_ROOM = (429, "quota_exceeded")
WRONG_KEYS = (429, "too_many_wrong_keys")
AWAY = (503, "storage_unavailable")
TAKEN = (202, "")


class Script(BaseHTTPRequestHandler):
    """Gives the server's answers one after the other, then repeats the last one."""

    def do_POST(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.keys.add(self.headers["Idempotency-Key"])
        self.server.asked += 1
        self.server.was_asked.set()
        (status, code), *others = self.server.answers
        self.server.answers = others or self.server.answers
        said = {"code": code, "detail": "A sentence.", "id": "7", "state": code, "result": None, "error": None}
        body = json.dumps(said).encode()
        self.send_response(status)
        ours = "application/json" if status < 400 else "application/problem+json"
        self.send_header("Content-Type", self.server.media_type or ours)
        self.send_header("Location", "https://dermqueue.example/v1/cases")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", self.server.retry_after)
        if "Prefer" in self.headers and (code == "succeeded" or not self.server.is_crowded):
            self.send_header("Preference-Applied", self.headers["Prefer"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def api() -> Iterator[ThreadingHTTPServer]:
    """An API that gives the `answers` that it is told to, and counts how often it was `asked`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Script) as server:
        server.answers, server.asked, server.keys, server.retry_after = [TAKEN], 0, set(), "0"
        server.was_asked, server.is_crowded, server.media_type = Event(), False, None
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def client(api) -> Client:
    return Client(Connection(f"http://127.0.0.1:{api.server_port}", "dq_key"))


@pytest.fixture
def photograph(tmp_path) -> Path:
    path = tmp_path / "lesion.jpg"
    path.write_bytes(b"photograph")
    return path


@pytest.fixture
def submit(client, photograph) -> Callable[[], dict]:
    return lambda: client.submit(photograph)


def test_without_room_it_goes_on_asking_for_as_long_as_it_takes(api, submit):
    api.answers = [NO_ROOM] * 5 * TRIES + [TAKEN]
    assert submit()["id"] == "7"
    assert api.asked == 5 * TRIES + 1
    assert len(api.keys) == 1


def test_errors_in_between_are_counted_afresh(api, submit):
    api.answers = [*[AWAY] * (TRIES - 1), NO_ROOM, *[AWAY] * (TRIES - 1), TAKEN]
    assert submit()["id"] == "7"


@pytest.mark.parametrize("trouble", [AWAY, WRONG_KEYS], ids=lambda trouble: trouble[1])
def test_other_errors_end_the_call_after_some_attempts(api, submit, trouble):
    api.answers = [trouble]
    with pytest.raises(Refused, match=trouble[1]):
        submit()
    assert api.asked == TRIES


def test_a_refused_request_is_not_retried(api, submit):
    api.answers = [(422, "image_too_small"), TAKEN]
    with pytest.raises(Refused, match="image_too_small"):
        submit()
    assert api.asked == 1


def test_a_proxy_that_names_a_date_to_wait_until_is_asked_again_soon(api, client, submit, monkeypatch):
    api.answers, api.retry_after, pauses = [AWAY, TAKEN], "Fri, 31 Dec 2027 23:59:59 GMT", []
    monkeypatch.setattr(client._stopped, "wait", pauses.append)
    submit()
    assert pauses == [1]


def test_it_waits_as_long_as_it_is_told(api, client, submit, monkeypatch):
    api.answers, api.retry_after, pauses = [NO_ROOM, AWAY, TAKEN], "30", []
    monkeypatch.setattr(client._stopped, "wait", pauses.append)
    submit()
    assert pauses == [30, client_module._LONGEST_PAUSE_S]


@pytest.mark.parametrize(("is_crowded", "expected"), [(True, [2, 2]), (False, [])])
def test_it_pauses_between_polls_where_the_service_lets_no_more_clients_wait(
    api, client, monkeypatch, is_crowded, expected
):
    api.answers, api.retry_after, pauses = [(200, "queued"), (200, "running"), (200, "succeeded")], "2", []
    api.is_crowded = is_crowded
    monkeypatch.setattr(client._stopped, "wait", pauses.append)
    assert [case["state"] for case in client.follow(["7"])] == ["succeeded"]
    assert pauses == expected


def test_before_each_poll_there_is_time_for_something_else(api, client):
    api.answers, asked = [(200, "queued"), (200, "succeeded")], []
    for _ in client.follow(["7"], lambda: asked.append(api.asked)):
        pass
    assert asked == [0, 1]


def test_a_wait_for_room_can_be_stopped(api, client, submit):
    api.answers, api.retry_after = [NO_ROOM], "3600"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(submit)
        assert api.was_asked.wait(30)
        client.stop()
        with pytest.raises(Refused, match="interrupted"):
            waiting.result(timeout=30)


def test_ctrl_c_ends_the_waiting_of_all(api, client, photograph):
    api.answers, api.retry_after = [(202, "queued"), NO_ROOM], "3600"

    def interrupt() -> None:
        assert api.was_asked.wait(30)
        while not client._stopped.wait(0.5):  # one that comes while a thread is being started may go unnoticed
            os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    # Whoever starts the suite in the background has it ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SendingInterrupted) as interrupted:
            submit_files(client, [photograph] * 20, Console(quiet=True), reference=None)
    finally:
        signal.signal(signal.SIGINT, before)
    states = [case["state"] for case in interrupted.value.cases]
    assert set(states) == {"queued", "unknown", "not sent"}
    assert states.count("queued") == 1  # whichever photograph was the first to arrive


def test_an_unreachable_api_ends_the_call(monkeypatch, tmp_path):
    monkeypatch.setattr(client_module, "_LONGEST_PAUSE_S", 0)
    nowhere = Client(Connection(f"http://127.0.0.1:{find_free_port()}", "dq_key"))
    with pytest.raises(Refused, match="api_unreachable"):
        nowhere.list_cases(1)


@pytest.mark.parametrize(
    ("url", "key", "code"),
    [
        ("http://localhost:80O0", "dq_key", "url_malformed"),
        ("http://localhost:80000", "dq_key", "url_malformed"),
        ("localhost:8000", "dq_key", "url_malformed"),
        ("dermqueue.example", "dq_key", "url_malformed"),
        ("https://", "dq_key", "url_malformed"),
        ("https://dermqueue.example", "dq_kéy", "key_malformed"),
        ("https://dermqueue.example", "dq_key\r", "key_malformed"),
        ("https://dermqueue.example", "dq_key ", "key_malformed"),
    ],
)
def test_an_address_or_a_key_that_cannot_be_right_is_refused_before_anything_is_sent(url, key, code, tmp_path):
    with pytest.raises(ConfigurationInvalid) as caught:
        find_connection(url, key, tmp_path)
    assert caught.value.code == code
    assert key not in caught.value.detail


def test_a_key_of_its_own_is_used_with_the_address_of_the_local_stack(tmp_path):
    (tmp_path / CONNECTION).write_text('{"base_url": "http://127.0.0.1:8000", "clinic_key": "dq_local"}')
    assert find_connection(None, "dq_key", tmp_path) == Connection("http://127.0.0.1:8000", "dq_key")
    with pytest.raises(ConfigurationInvalid, match="key_missing"):  # the local key is no one else's
        find_connection("https://dermqueue.example/", None, tmp_path)


def test_a_misspelt_variable_does_not_send_photographs_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("DERMQUEUE_ULR", "https://dermqueue.example")
    with pytest.raises(ConfigurationInvalid, match="Did you mean DERMQUEUE_URL"):
        find_connection(None, None, tmp_path)


def test_a_photograph_whose_answer_never_came_may_have_been_accepted(api, client, photograph, monkeypatch):
    monkeypatch.setattr(client_module, "_LONGEST_PAUSE_S", 0)
    api.answers = [AWAY]
    (case,) = submit_files(client, [photograph], Console(quiet=True), reference=None)
    assert (case["state"], case["error"]["code"]) == ("unknown", "storage_unavailable")
    assert "may have been accepted" in case["error"]["detail"]


def test_a_redirection_is_refused_with_the_address_that_it_names(api, submit):
    api.answers = [(308, "")]
    with pytest.raises(Refused, match=r"It is at https://dermqueue\.example/v1/cases: change --url"):
        submit()
    assert api.asked == 1


@pytest.mark.parametrize(
    "call",
    [lambda client: client.list_cases(1), lambda client: client.read_heatmap("7"), lambda c: c.read_report("7")],
    ids=["list_cases", "read_heatmap", "read_report"],
)
def test_a_page_of_another_server_is_not_taken_for_the_answer(api, client, call):
    api.answers, api.media_type = [(200, "")], "text/html; charset=utf-8"
    with pytest.raises(Refused, match="not_dermqueue"):
        call(client)


@pytest.mark.parametrize("status", [408, 502, 504])
def test_a_request_is_resent_after_a_broken_connection_and_while_a_proxys_service_restarts(api, submit, status):
    api.answers = [(status, ""), TAKEN]
    assert submit()["id"] == "7"
    assert (api.asked, len(api.keys)) == (2, 1)


def test_an_interrupted_wait_prints_the_ids(api, photograph, monkeypatch):
    def give_up(*_) -> Iterator[dict]:
        raise Refused("api_unreachable", "The API does not answer.")

    monkeypatch.setattr(Client, "follow", give_up)
    url = f"http://127.0.0.1:{api.server_port}"
    done = CliRunner().invoke(main, ["submit", str(photograph), "--wait", "--url", url, "--key", "dq_key"])
    assert done.exit_code == 1
    assert f"{photograph.name}: 7" in done.output


def test_a_file_whose_name_is_not_utf8_is_submitted_with_the_others(api, photograph):
    api.answers = [(202, "queued")]
    odd = photograph.with_name(os.fsdecode(b"m\xf6le.jpg"))
    odd.write_bytes(b"photograph")
    url = f"http://127.0.0.1:{api.server_port}"
    done = CliRunner().invoke(main, ["submit", str(photograph), str(odd), "--url", url, "--key", "dq_key"])
    assert (done.exit_code, api.asked) == (0, 2), done.output
    assert "m\ufffdle.jpg" in done.stdout


def test_a_file_that_cannot_be_read_is_refused_by_itself(client, photograph):
    files = [photograph, photograph.with_name("gone.jpg")]
    taken, refused = submit_files(client, files, Console(quiet=True), reference=None)
    assert taken["id"] == "7"
    assert (refused["state"], refused["error"]["code"]) == ("refused", "file_unreadable")
