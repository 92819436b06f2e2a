"""Failures that no photograph of a batch has caused, and those that one has."""

import time
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from sqlalchemy import update

from shared import photograph
from shared.database import read_clock
from shared.domain import State
from shared.errors import ObjectInaccessible
from shared.store import cases
from shared.tables import CaseRow
from tests import images
from tests.factories import add_case, add_photograph
from tests.worker.conftest import CountingDoorbell
from tests.worker.deviceless_worker import DeadDevice
from tests.worker.networks import TinyNetwork, tiny_model
from tests.worker.test_triage import Away, jpeg, state_of
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


class Refusing(Away):
    """The real store, but it refuses to return the objects of these keys, or any object if none is given."""

    def __init__(self, store, *keys: str):
        super().__init__(store, "")
        self._keys = keys

    def get(self, key: str) -> bytes:
        if not self._keys or key in self._keys:
            raise ObjectInaccessible("storage_unavailable", "InvalidObjectState")
        return self._store.get(key)


def test_photographs_that_the_store_refuses_do_not_keep_those_behind_them_waiting(
    make_triage, database, store, clinic_id
):
    refused, behind = ([add_photograph(database, store, clinic_id, jpeg()) for _ in range(3)] for _ in range(2))
    refusing = Refusing(store, *[case.photograph.key for case in refused])
    make_triage(store=refusing, batch_size=2).analyze_waiting()
    assert {state_of(database, case) for case in refused} == {(State.QUEUED, None, 0)}
    assert {state_of(database, case)[0] for case in behind} == {State.SUCCEEDED}
    with database.reading() as session:
        soon = read_clock(session) + timedelta(seconds=30)
        assert all(session.get(CaseRow, case.id).available_at > soon for case in refused)


class _MayNotDelete(Refusing):
    """A store whose key may only put and get, or whose objects are locked."""

    def delete(self, key: str) -> None:
        raise ObjectInaccessible("storage_unavailable", "AccessDenied")


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The clock by which inaccessible photographs are timed; it stands still."""
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(analysis, "time", SimpleNamespace(monotonic=lambda: clock.now_s, sleep=lambda _: None))
    return clock


def make_old(database, age_h: float = 25) -> None:
    with database.writing() as session:
        session.execute(update(CaseRow).values(submitted_at=read_clock(session) - timedelta(hours=age_h)))


def make_due(database) -> None:
    with database.writing() as session:
        session.execute(update(CaseRow).values(available_at=CaseRow.submitted_at))


@pytest.mark.parametrize(
    ("age_h", "minutes", "alone_refused", "refusing", "state"),
    [
        (25, 11, True, Refusing, State.FAILED),
        (25, 11, True, _MayNotDelete, State.FAILED),
        (23, 11, True, Refusing, State.QUEUED),
        (25, 9, True, Refusing, State.QUEUED),
        (25, 11, False, Refusing, State.QUEUED),
    ],
    ids=["old", "nothing can be deleted", "young", "refused for minutes", "store refuses everything"],
)
def test_a_photograph_that_is_the_only_one_refused_fails_after_a_day_and_can_be_requeued(
    make_triage, database, store, clinic_id, clock, age_h, minutes, alone_refused, refusing, state
):
    case = add_photograph(database, store, clinic_id, jpeg())
    make_old(database, age_h)
    triage = make_triage(store=refusing(store, *[case.photograph.key] * alone_refused))
    for _ in range(minutes + 1):
        make_due(database)
        triage.analyze_waiting()
        clock.now_s += 60
    code = "object_unreadable" if state is State.FAILED else None
    assert state_of(database, case)[:2] == (state, code)
    with database.writing() as session:
        if state is State.FAILED:
            cases.requeue_case(session, case.id, read_clock(session))
    make_due(database)
    make_triage().analyze_waiting()
    assert state_of(database, case)[0] == State.SUCCEEDED


def test_the_first_refusals_after_a_day_without_a_store_fail_no_case(
    make_triage, database, store, clinic_id, clock, monkeypatch
):
    case = add_photograph(database, store, clinic_id, jpeg())
    make_old(database)
    with database.writing() as session:
        session.execute(update(CaseRow).values(version=10_000))
    refusing = Refusing(store, case.photograph.key)
    triage = make_triage(store=refusing)
    for away in (False, True, False, False):
        with monkeypatch.context() as patched:
            if away:
                patched.setattr(refusing, "get", Away(store, "get").get)
            make_due(database)
            triage.analyze_waiting()
        clock.now_s += 299
    assert state_of(database, case)[0] == State.QUEUED


def test_a_refusal_long_after_the_last_one_is_timed_anew(clock):
    inaccessible, case_id = analysis._Inaccessible(), uuid4()
    refused_for_s = []
    for pause_s in (0, 500, 500, 601, 1):
        clock.now_s += pause_s
        refused_for_s.append(inaccessible.note(case_id))
    assert refused_for_s == [0, 500, 1000, 0, 1]


def test_the_number_of_inaccessible_photographs_remembered_is_limited(monkeypatch):
    monkeypatch.setattr(analysis, "_INACCESSIBLE_KNOWN", 2)
    inaccessible, case_ids = analysis._Inaccessible(), [uuid4() for _ in range(3)]
    for case_id in case_ids:
        inaccessible.note(case_id)
    assert list(inaccessible._seen) == case_ids[1:]


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
