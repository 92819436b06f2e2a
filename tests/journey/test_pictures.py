"""The documentation's screenshots, taken from a running stack, and whether they still show the pages as they are."""

import calendar
import io
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from deploy.commands.demo import SAMPLES
from tests.browsing import enter_key
from tests.journey.stack import RunningStack, running_stack

TAKEN = os.environ.get("PICTURES")
"""The folder where pictures go, if they are to be taken: `make pictures`."""
OUTLINES = Path(__file__).parent / "outlines"
"""What a screen reader finds on each page, as of its last picture."""
PICTURES = {
    "cases": ("clinic_key", "/app/cases"),
    "worklist": ("reviewer_key", "/app/worklist"),
    "review": ("reviewer_key", "/app/worklist/{case}"),
    "queue": ("admin_key", "/app/queue"),
}
SIZE = {"width": 1100, "height": 760}
QUALITY = 85
ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{12}\b"
DAY = rf"\b\d+ (?:{'|'.join(calendar.month_abbr[1:])})\b"
VARYING = re.compile(rf"{DAY}|{ID}|\d+(?:[.:,]\d+)*|{re.escape(platform.node())}|–|not measured yet")


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("pictures") / "data", {}) as running:
        yield running


@pytest.fixture(scope="module")
def case_id(stack) -> str:
    """The sample with the most probable melanoma, when all are analysed."""
    ids = [stack.submit(file.read_bytes(), reference=file.stem).json()["id"] for file in sorted(SAMPLES.glob("*.jpg"))]
    cases = stack.finish(ids)
    return max(cases, key=lambda case: case["result"]["melanoma_probability"])["id"]


@pytest.mark.parametrize("name", PICTURES)
def test_the_documentation_shows_the_page_as_it_is(browser, stack, case_id, name):
    key_name, address = PICTURES[name]
    page = browser.new_context(base_url=stack.connection["base_url"], viewport=SIZE).new_page()
    enter_key(page, stack.connection[key_name])
    page.goto(address.format(case=case_id), wait_until="networkidle")
    outline = VARYING.sub("…", page.locator("main").aria_snapshot()).replace('"…"', "…") + "\n"
    if TAKEN:
        picture = Image.open(io.BytesIO(page.screenshot(full_page=name == "review")))
        picture.convert("RGB").save(Path(TAKEN) / f"{name}.webp", quality=QUALITY, method=6)
        (OUTLINES / f"{name}.txt").write_text(outline)
    page.context.close()
    assert outline == (OUTLINES / f"{name}.txt").read_text(), "the page has changed: run `make pictures` and look"
