"""How peers are fed and what counts as an answer of theirs."""

import base64
import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.benchmarks.peers import contenders
from tests.benchmarks.peers.client import AnswerIncomplete, drain_server
from tests.servers.serving import serving

ROOT = Path(__file__).parents[2]
OVERLAY = base64.b64encode(b"\x89PNG\r\n\x1a\n and pixels").decode()
COMPLETE = {"class": "melanoma", "overlay": OVERLAY}


@contextmanager
def server_that_answers(answer: object) -> Iterator[tuple[str, list[bytes]]]:
    """Yields its URL and the bodies that it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield address, bodies


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{number}.jpg" for number in range(5)]
    for number, file in enumerate(files):
        file.write_bytes(b"photograph %d" % number)
    return files


@pytest.mark.parametrize("answer", [COMPLETE, [COMPLETE]])
def test_every_photograph_is_sent_once(photographs, answer):
    with server_that_answers(answer) as (url, bodies):
        assert drain_server(url, photographs) > 0
    assert len(bodies) == len(photographs)
    assert all(sum(file.read_bytes() in body for body in bodies) == 1 for file in photographs)


@pytest.mark.parametrize(
    "answer",
    [
        {"overlay": OVERLAY},
        {"class": "melanoma"},
        {"class": "wart", "overlay": OVERLAY},
        {"class": "melanoma", "overlay": base64.b64encode(b"no picture").decode()},
    ],
)
def test_an_answer_without_a_class_of_ours_or_without_a_picture_does_not_count(photographs, answer):
    with server_that_answers(answer) as (url, _), pytest.raises(AnswerIncomplete, match="of 5 photographs, 0"):
        drain_server(url, photographs)


def test_the_peers_compute_with_the_workers_torch():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    theirs = (ROOT / "tests" / "benchmarks" / "peers" / "requirements.txt").read_text().splitlines()
    assert {pin for pin in extras["worker"] if pin.startswith("torch")} <= set(theirs)


def test_there_are_four_peers():
    assert [peer.name for peer in contenders()] == ["Celery", "BentoML", "LitServe", "Ray Serve"]
