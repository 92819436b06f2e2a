"""The rules of a case, without any server: when it is referred, when it fails, when it is final."""

import math

import pytest
from pydantic import ValidationError

from shared.domain import (
    MAX_ATTEMPTS,
    Analysis,
    Decision,
    OperatingPoint,
    State,
    decide,
    find_plausible,
    problem_after_lost_lease,
)

POINT = OperatingPoint(name="sensitive", threshold=0.2, sensitivity=0.9, specificity=0.7)


@pytest.mark.parametrize(
    ("melanoma_probability", "decision"),
    [
        (0.0, Decision.ROUTINE),
        (math.nextafter(0.2, 0), Decision.ROUTINE),
        (0.2, Decision.REFER),
        (math.nextafter(0.2, 1), Decision.REFER),
        (1.0, Decision.REFER),
    ],
)
def test_a_case_is_referred_at_the_threshold_and_above(melanoma_probability, decision):
    assert decide(melanoma_probability, POINT) is decision


@pytest.mark.parametrize("field", ["threshold", "sensitivity", "specificity"])
@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan])
def test_an_operating_point_holds_shares_between_0_and_1(field, value):
    with pytest.raises(ValidationError, match=field):
        OperatingPoint(**POINT.model_dump() | {field: value})


def test_an_operating_point_from_before_intervals_is_read_and_one_with_them_survives_storage():
    old = {"name": "sensitive", "threshold": 0.2, "sensitivity": 0.9, "specificity": 0.7}
    assert OperatingPoint.model_validate(old) == POINT
    told = POINT.model_copy(update={"sensitivity_interval": (0.8, 0.95), "specificity_interval": (0.6, 0.8)})
    assert OperatingPoint.model_validate_json(told.model_dump_json()) == told


def test_an_analysis_ranks_by_the_probability_of_melanoma():
    analysis = Analysis((0.7, 0.2, 0.1), Decision.REFER, POINT, "digest", "squash", "0.1", (), "key")
    assert analysis.melanoma_probability == 0.7


@pytest.mark.parametrize(
    ("probabilities", "decision", "plausible"),
    [
        ((0.1, 0.3, 0.6), Decision.ROUTINE, ("melanoma", "seborrheic_keratosis", "nevus")),  # each at its threshold
        ((math.nextafter(0.1, 0), 0.1, 0.8), Decision.ROUTINE, ("nevus",)),
        ((0.05, 0.05, 0.9), Decision.REFER, ("melanoma", "nevus")),  # referred below its own threshold
        ((0.02, 0.48, 0.5), Decision.ROUTINE, ("seborrheic_keratosis", "nevus")),  # none but the most probable
        ((0.9, 0.05, 0.05), Decision.ROUTINE, ("melanoma",)),
    ],
)
def test_plausible_is_what_reaches_its_threshold_what_is_most_probable_and_melanoma_in_a_referred_case(
    probabilities, decision, plausible
):
    assert find_plausible(probabilities, (0.1, 0.3, 0.6), decision) == plausible


@pytest.mark.parametrize(("plausible", "uncertain"), [(("nevus",), False), (("melanoma", "nevus"), True), (None, None)])
def test_a_result_is_uncertain_where_more_than_one_diagnosis_is_plausible(plausible, uncertain):
    analysis = Analysis((0.7, 0.2, 0.1), Decision.REFER, POINT, "digest", "squash", "0.1", (), "key", plausible)
    assert analysis.uncertain is uncertain


@pytest.mark.parametrize("attempts", range(1, MAX_ATTEMPTS))
def test_a_case_whose_worker_vanished_is_tried_again(attempts):
    assert problem_after_lost_lease(attempts) is None


@pytest.mark.parametrize("attempts", [MAX_ATTEMPTS, MAX_ATTEMPTS + 1])
def test_a_case_that_was_tried_too_often_fails_and_says_so(attempts):
    problem = problem_after_lost_lease(attempts)
    assert (problem.state, problem.code) == (State.FAILED, "analysis_interrupted")
    assert f"started {attempts} times" in problem.detail


def test_a_case_is_final_in_every_state_except_queued_and_running():
    assert {state for state in State if not state.is_final} == {State.QUEUED, State.RUNNING}
    assert {state for state in State if state.is_final} == {"succeeded", "rejected", "failed", "cancelled"}
