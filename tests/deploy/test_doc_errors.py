"""The API guide's tables of errors hold every code that a client can meet, with its status."""

import ast
import re
from collections.abc import Iterator

import pytest

from api.problems import status_of
from shared import errors
from tests.deploy.pages import PAGES, REPOSITORY
from worker.counters import FAILURES

KINDS = ("ImageRejected", "RequestInvalid", "NotAuthenticated", "NotAllowed", "NotFound", "Conflict", "TooMany")
KINDS += ("Unavailable", "ObjectMissing")
FROM_NO_OBJECT_OF_OURS = {"400 request_malformed", "405 method_not_allowed", "500 internal_error"}
MET_BY_NO_CLIENT = {"409 item_taken", "503 database_busy"}
"""A submission goes on with its next photograph; only commands upgrade the database and wait for its tables."""

ROW = re.compile(r"^\| (\d{3}|`rejected`|`failed`) \| (.+?) \|", re.MULTILINE)
OF_QUALITY = ("image_dark", "image_overexposed")
"""What only the worker raises."""

OF_CASES = {
    "rejected image_truncated",
    "rejected image_damaged",
    "rejected image_flat",
    *(f"rejected {code}" for code in OF_QUALITY),
    *(f"failed {code}" for code in FAILURES),
}


def raised(kind: str, folders: tuple[str, ...] = ("api", "shared")) -> Iterator[str]:
    """Yield the codes with which the API or what it uses makes errors of this kind."""
    for folder in folders:
        for file in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == kind:
                    yield node.args[0].value


@pytest.fixture(scope="module")
def listed() -> set[str]:
    rows = ROW.findall((PAGES / "api.md").read_text())
    return {f"{status.strip('`')} {code}" for status, codes in rows for code in re.findall("`(.+?)`", codes)}


def test_every_code_stands_in_the_guide_with_its_status_and_no_other(listed):
    assert set(raised("ImageRejected", ("worker",))) == set(OF_QUALITY)
    made = {f"{status_of(getattr(errors, kind)(code, ''))} {code}" for kind in KINDS for code in raised(kind)}
    when_decoded = {f"422 {case.split()[1]}" for case in OF_CASES if case.startswith("rejected")}
    assert made | {f"422 {code}" for code in OF_QUALITY} >= when_decoded
    assert made >= MET_BY_NO_CLIENT
    assert listed == made - when_decoded - MET_BY_NO_CLIENT | FROM_NO_OBJECT_OF_OURS | OF_CASES
