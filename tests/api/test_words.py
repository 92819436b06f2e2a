"""What codes and numbers say to people: nothing looks certain that is not, or seems to contradict a decision."""

import re

import pytest

from api.words import WARNINGS, percent, say_warning, tell_apart
from tests.deploy.pages import PAGES


def test_every_warning_of_the_guide_has_a_sentence_and_no_other():
    (row,) = re.findall(r"^\| `warnings` \| (.+) \|$", (PAGES / "api.md").read_text(), re.MULTILINE)
    assert set(re.findall("`(.+?)`", row)) == set(WARNINGS)


def test_a_photograph_that_is_no_dermoscopy_image_is_said_not_to_be_relied_on():
    assert "do not rely on this result" in say_warning("not_dermoscopic")


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0.0%"), (0.0003, "<0.1%"), (0.0526, "5.3%"), (0.1, "10%"), (0.994, "99%"), (0.996, ">99%"), (1, "100%")],
)
def test_what_is_neither_nothing_nor_all_does_not_look_like_it(share, shown):
    assert percent(share) == shown


@pytest.mark.parametrize(
    ("share", "threshold", "shown"),
    [
        (0.12, 0.05266, ("12%", "5.3%")),
        (0.0526, 0.05266, ("5.26%", "5.27%")),
        (0.237, 0.2407, ("23.7%", "24.1%")),
        (0.2407, 0.2407, ("24%", "24%")),
    ],
)
def test_a_probability_and_a_threshold_that_differ_are_shown_to_differ(share, threshold, shown):
    assert tell_apart(share, threshold) == shown
