"""Failures that no photograph of a batch has caused, and those that one has."""

import time

import pytest
from sqlalchemy import update

from shared import photograph
from shared.domain import State
from shared.tables import CaseRow
from tests import images
from tests.factories import add_case, add_photograph
from tests.worker.conftest import CountingDoorbell
from tests.worker.deviceless_worker import DeadDevice
from tests.worker.networks import TinyNetwork, tiny_model
from tests.worker.steps import Away, jpeg, state_of
from worker import analysis


class _NaNs(TinyNetwork):
    def look(self, pixels):
        logits, stages = super().look(pixels)
        return logits * float("nan"), stages


def test_while_the_store_is_unavailable_one_batch_is_claimed_and_the_others_wait_for_the_next_sweep(
    make_triage, database, store, clinic_id
):
    queued = [add_case(database, clinic_id) for _ in range(5)]
    doorbell = CountingDoorbell()
    make_triage(store=Away(store, "get"), doorbell=doorbell, batch_size=2).analyze_waiting()
    with database.reading() as session:
        versions = [session.get(CaseRow, case.id).version for case in queued]
    assert (sorted(versions), doorbell.rings) == ([1, 1, 1, 3, 3], 0)


def test_the_number_of_large_photographs_decoded_at_once_is_limited(
    make_triage, database, store, clinic_id, monkeypatch
):
    monkeypatch.setattr(analysis, "_LARGE_AT_ONCE", 1)
    monkeypatch.setattr(photograph, "_MANY_PIXELS", 0)
    decode, together, inside = photograph._decode, [], []

    def watched(*arguments):
        inside.append(1)
        time.sleep(0.05)  # long enough for two that do not wait for each other to overlap
        together.append(len(inside))
        inside.pop()
        return decode(*arguments)

    monkeypatch.setattr(photograph, "_decode", watched)
    for _ in range(4):
        add_photograph(database, store, clinic_id, images.encode(images.lesion(), "WEBP"))
    make_triage().analyze_waiting()
    assert together == [1] * 4


@pytest.mark.parametrize("network", [DeadDevice, _NaNs])
def test_a_worker_whose_device_is_dead_costs_no_case_an_attempt_and_claims_no_further_one(
    make_triage, database, store, clinic_id, network
):
    queued = [add_photograph(database, store, clinic_id, jpeg()) for _ in range(3)]
    triage = make_triage(tiny_model(network()), batch_size=2)
    triage.analyze_waiting()
    assert triage.device_lost
    assert {state_of(database, case) for case in queued} == {(State.QUEUED, None, 0)}
    with database.reading() as session:
        assert session.get(CaseRow, queued[2].id).version == 1
    other = make_triage()
    with database.writing() as session:
        session.execute(update(CaseRow).values(available_at=CaseRow.submitted_at))
    other.analyze_waiting()
    assert {state_of(database, case)[0] for case in queued} == {State.SUCCEEDED}


class _DiesOfTheDark(TinyNetwork):
    """Reads nothing more once it was given a photograph that is dark but not black."""

    is_dead = False

    def look(self, pixels):
        brightness = pixels.mean(dim=(1, 2, 3))
        self.is_dead |= bool(((brightness > -2) & (brightness < -1)).any())
        if self.is_dead:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().look(pixels)


def test_a_photograph_that_kills_the_device_is_tried_alone_and_fails_after_three_attempts(
    make_triage, database, store, clinic_id
):
    dark = images.encode(images.lesion().point(lambda level: level // 4), "PNG")
    bad, good = (add_photograph(database, store, clinic_id, data) for data in (dark, jpeg()))
    attempts = []
    for _ in range(4):
        make_triage(tiny_model(_DiesOfTheDark())).analyze_waiting()
        attempts.append(state_of(database, bad)[2])
        with database.writing() as session:
            session.execute(update(CaseRow).values(available_at=CaseRow.submitted_at))
    make_triage(tiny_model(_DiesOfTheDark())).analyze_waiting()
    assert attempts == [0, 1, 2, 3]
    assert state_of(database, bad)[:2] == (State.FAILED, "analysis_failed")
    assert state_of(database, good) == (State.SUCCEEDED, None, 1)


def test_nothing_is_claimed_if_the_device_was_lost_while_waiting_for_a_seat(make_triage, database, store, clinic_id):
    case = add_photograph(database, store, clinic_id, jpeg())
    triage = make_triage(tiny_model(DeadDevice()))
    with database.writing() as session:
        session.execute(update(CaseRow).values(alone=True))
    triage.analyze_waiting()
    triage.stopping.clear()  # as it was when another thread began to wait
    with database.writing() as session:
        session.execute(update(CaseRow).values(available_at=CaseRow.submitted_at))
    triage.analyze_waiting()
    assert state_of(database, case) == (State.QUEUED, None, 1)
