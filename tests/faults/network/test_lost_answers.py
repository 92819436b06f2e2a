"""Connections that break after a server did what it was asked, before the answer arrives."""

import pytest

from tests.faults.network.proxy import LoseAnswers

SUBMISSION = (b"POST /v1/cases ",)
# The audit trail's events stand among the last parameters before the commit.
COMMIT_OF_SUBMISSION = (b"case.submitted", b"COMMIT\0")
COMMIT_OF_RESULT = (b"case.succeeded", b"COMMIT\0")


@pytest.mark.briefly_on("embedded")
def test_a_clinic_that_lost_the_answer_asks_again_and_has_one_case(rig, proxies, sizes):
    lose = LoseAnswers(SUBMISSION, one_in=3)
    with proxies.api.behaving(lose), rig.submitting(sizes.cases, urls=[proxies.api.url]) as load:
        pass
    settle(rig, load, "answer lost between API and clinic", lose)


@pytest.mark.only_on("postgresql")
def test_a_submission_whose_commit_was_never_confirmed_is_one_case(rig, proxies, sizes):
    lose = LoseAnswers(COMMIT_OF_SUBMISSION, one_in=3, hold_s=0.5)
    with proxies.sql.behaving(lose), rig.submitting(sizes.cases) as load:
        pass
    settle(rig, load, "commit's answer lost between SQL and API", lose)


@pytest.mark.only_on("postgresql")
def test_a_result_whose_commit_was_never_confirmed_is_recorded_again_and_stands_once(rig, proxies, sizes):
    lose = LoseAnswers(COMMIT_OF_RESULT, one_in=2)
    with proxies.sql.behaving(lose):
        with rig.submitting(sizes.cases) as load:
            pass
        settle(rig, load, "commit's answer lost between SQL and worker", lose)


def settle(rig, load, fault: str, lose: LoseAnswers) -> None:
    rig.await_ends(load, len(load.accepted))
    outcome = rig.settle(load, fault, times=lose.lost)
    assert lose.lost > 1
    assert load.refused == {}
    assert (outcome.failed, outcome.orphaned) == (0, 0)
    assert {trace.attempts for trace in rig.observe(load)} == {1}
