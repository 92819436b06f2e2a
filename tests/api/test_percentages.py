"""Numbers beside a decision never seem to contradict it, and nothing looks certain that is not."""

import pytest

from api.percentages import percent, tell_apart


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
