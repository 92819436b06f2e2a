"""What a code says to people."""

import re

from api.warning_words import WARNINGS, say_warning
from tests.deploy.pages import PAGES


def test_every_warning_of_the_guide_has_a_sentence_and_no_other():
    (row,) = re.findall(r"^\| `warnings` \| (.+) \|$", (PAGES / "api.md").read_text(), re.MULTILINE)
    assert set(re.findall("`(.+?)`", row)) == set(WARNINGS)


def test_a_photograph_that_is_no_dermoscopy_image_is_said_not_to_be_relied_on():
    assert "do not rely on this result" in say_warning("not_dermoscopic")
