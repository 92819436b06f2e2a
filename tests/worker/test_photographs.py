"""Photographs that the store does not return, for a while or for good, and those behind them."""

from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from sqlalchemy import update

from shared.database import read_clock
from shared.domain import State
from shared.errors import ObjectRefused
from shared.store import cases
from shared.tables import CaseRow
from tests.factories import add_photograph
from tests.faults.network.proxy import NarrowLine, Swallow
from tests.worker.steps import Away, jpeg, state_of
from worker import photographs


class Refusing(Away):
    """The real store, but it refuses to return the objects of these keys, or any object if none is given."""

    def __init__(self, store, *keys: str):
        super().__init__(store, "")
        self._keys = keys

    def get(self, key: str) -> bytes:
        if not self._keys or key in self._keys:
            raise ObjectRefused("storage_unavailable", "InvalidObjectState")
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
        raise ObjectRefused("storage_unavailable", "AccessDenied")


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The clock by which inaccessible photographs are timed; it stands still."""
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(photographs, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
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
    inaccessible, case_id = photographs._Inaccessible(), uuid4()
    refused_for_s = []
    for pause_s in (0, 500, 500, 601, 1):
        clock.now_s += pause_s
        inaccessible.note(case_id)
        refused_for_s.append(inaccessible.lasted_s(case_id))
    assert refused_for_s == [0, 500, 1000, 0, 1]


def test_the_number_of_inaccessible_photographs_remembered_is_limited(monkeypatch):
    monkeypatch.setattr(photographs, "_INACCESSIBLE_KNOWN", 2)
    inaccessible, case_ids = photographs._Inaccessible(), [uuid4() for _ in range(3)]
    for case_id in case_ids:
        inaccessible.note(case_id)
    assert list(inaccessible._seen) == case_ids[1:]


def test_photographs_too_large_to_come_together_through_a_narrow_line_come_one_by_one(
    make_triage, database, store, clinic_id, proxied, monkeypatch
):
    network, proxied_store = proxied
    monkeypatch.setattr("shared.storage._LONGEST_CALL_S", 0.8)
    large = [add_photograph(database, store, clinic_id, jpeg(2400, 1800)) for _ in range(4)]
    size_bytes = large[0].photograph.size_bytes
    with network.behaving(NarrowLine(size_bytes / 0.4)):
        make_triage(store=proxied_store).analyze_waiting()
    assert {state_of(database, case)[0] for case in large} == {State.SUCCEEDED}


def test_a_photograph_that_never_comes_costs_the_rest_of_its_batch_nothing(
    make_triage, database, store, clinic_id, proxied
):
    network, proxied_store = proxied
    lost, *others = (add_photograph(database, store, clinic_id, jpeg()) for _ in range(4))
    with network.behaving(Swallow(asked=lost.photograph.key.encode())):
        make_triage(store=proxied_store).analyze_waiting()
    assert {state_of(database, case)[0] for case in others} == {State.SUCCEEDED}
    assert state_of(database, lost) == (State.QUEUED, None, 0)
    assert postponed_for_s(database, lost) > 30


@pytest.mark.parametrize("answers_otherwise", [True, False])
def test_a_batch_of_which_nothing_comes_waits_longer_only_if_the_store_answers_otherwise(
    make_triage, database, store, clinic_id, proxied, answers_otherwise
):
    network, proxied_store = proxied
    lost = add_photograph(database, store, clinic_id, jpeg())
    with network.behaving(Swallow(asked=lost.photograph.key.encode() if answers_otherwise else b"")):
        make_triage(store=proxied_store).analyze_waiting()
    assert state_of(database, lost) == (State.QUEUED, None, 0)
    assert (postponed_for_s(database, lost) > 30) == answers_otherwise


def test_a_photograph_is_retried_ever_less_often_while_it_is_inaccessible(
    make_triage, database, store, clinic_id, clock
):
    case = add_photograph(database, store, clinic_id, jpeg())
    triage, pauses_s = make_triage(store=Refusing(store, case.photograph.key)), []
    for _ in range(5):
        make_due(database)
        triage.analyze_waiting()
        pauses_s.append(round(postponed_for_s(database, case), -1))
        clock.now_s += pauses_s[-1]
    assert pauses_s == [60, 60, 120, 240, 300]


def postponed_for_s(database, case) -> float:
    with database.reading() as session:
        return (session.get(CaseRow, case.id).available_at - read_clock(session)).total_seconds()
