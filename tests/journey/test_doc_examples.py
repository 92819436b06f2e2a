"""Every example of the guides and the README, pasted as a reader would, one after the other, on a running stack."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import pytest

from tests.deploy.pages import PAGES, REPOSITORY, Block, read_blocks
from tests.journey.stack import running_stack
from tests.servers.serving import serving

ANSWERS = ("json", "text")
ANY = "…"
_END = "\x1e"
_PAGES = [
    *(PAGES / f"{name}.md" for name in ("api", "quickstart-clinic", "quickstart-admin")),
    REPOSITORY / "README.md",
]
"""The guide first: it counts cases."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """A folder as `make up` leaves it: the stack runs on `.dermqueue`."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    with running_stack(folder / ".dermqueue", {"DERMQUEUE_LOCAL_WEBHOOKS": "true"}):
        yield folder


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_every_example_runs_and_answers_as_the_page_shows(folder, page):
    blocks = read_blocks(page)
    commands = [block for block in blocks if block.language == "bash"]
    assert commands
    for block in blocks:
        if block.language == "python":
            assert block.title, f"{page.name}:{block.line}: no file is named that this is to be saved as"
            (folder / block.title).write_text(block.text)
    told = run(folder, page, commands)
    for block, answer in pairwise(blocks):
        if block.language == "bash" and answer.language in ANSWERS:
            assert_shown(told[block.line], answer, page)


def test_the_client_outlasts_what_a_proxy_says_without_a_body_and_without_retry_after(tmp_path):
    statuses = iter((502, 503, 408, 504, 413))

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(next(statuses))
            self.end_headers()

        def log_message(self, *_):
            pass

    (client,) = [block for block in read_blocks(PAGES / "api.md") if block.title == "client.py"]
    (tmp_path / "client.py").write_text(client.text)
    (tmp_path / ".dermqueue").mkdir()
    without_pauses = "import runpy, time; time.sleep = lambda seconds: None; runpy.run_path('client.py')"
    with serving(HTTPServer(("127.0.0.1", 0), Proxy)) as address:
        connection = {"base_url": address, "clinic_key": "dq_1_2"}
        (tmp_path / ".dermqueue" / "connection.json").write_text(json.dumps(connection))
        command = [sys.executable, "-c", without_pauses, REPOSITORY / "deploy" / "samples" / "ISIC_0000030.jpg"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.stderr.strip() == "413"
    assert list(statuses) == []


def run(folder: Path, page: Path, commands: list[Block]) -> dict[int, str]:
    """Return each block's output by its line; all run in one shell."""
    script = "".join(f"{block.text}\nprintf '{_END}'\n" for block in commands)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
    )
    said = done.stdout.split(_END)
    if done.returncode:
        failed = commands[len(said) - 1]
        raise AssertionError(f"{page.name}:{failed.line}: {done.stderr}\n{said[-1]}")
    return {block.line: text for block, text in zip(commands, said, strict=False)}


def assert_shown(said: str, answer: Block, page: Path) -> None:
    where = f"{page.name}:{answer.line}"
    if answer.language == "json":
        difference = find_difference(json.loads(said), json.loads(answer.text), "")
        assert difference is None, f"{where}: {difference}"
    else:
        assert matches(said.strip(), answer.text.strip()), f"{where}: {said}"


def find_difference(told: object, shown: object, path: str) -> str | None:
    """Return where JSON differs from what is shown; any number with a fraction matches another."""
    if shown == ANY:
        return None
    if type(told) is not type(shown):
        return f"{path}: {told!r}"
    if isinstance(shown, dict):
        if list(told) != list(shown):
            return f"{path}: {list(told)}"
        parts = ((told[name], shown[name], f"{path}.{name}") for name in shown)
    elif isinstance(shown, list):
        if len(told) != len(shown):
            return f"{path}: {told!r}"
        parts = ((one, other, path) for one, other in zip(told, shown, strict=True))
    elif isinstance(shown, str):
        return None if matches(told, shown) else f"{path}: {told}"
    else:
        return None if isinstance(shown, float) or told == shown else f"{path}: {told!r}"
    return next((found for found in (find_difference(*part) for part in parts) if found), None)


def matches(said: str, shown: str) -> bool:
    """Tell whether a text is what is shown, where … stands for anything within a line."""
    return re.fullmatch(".*".join(map(re.escape, shown.split(ANY))), said) is not None
