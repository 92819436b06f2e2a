"""Cases as clinics and reviewers see them: whose they are, in which order, and what is left after deletion."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from shared.database import Database
from shared.domain import Caller, Case, Decision, Lease, Role, State
from shared.errors import Conflict, NotFound
from shared.store import cases, objects
from shared.store.cases import CaseFilter
from tests.factories import add_clinic, clinic_caller
from tests.shared.steps import (
    MAPS,
    MODEL,
    POINT,
    at,
    claim,
    give_back,
    load_model,
    overlays,
    record,
    reject,
    stored,
    submit,
    sweep,
)

REVIEWER = Caller(uuid4(), Role.REVIEWER, None)
PERSONAL = {"reference": "A-17", "age": 61, "sex": "female", "site": "back", "idempotency_key": "key-1"}


@pytest.fixture
def clinic_id(database) -> UUID:
    load_model(database)
    return add_clinic(database)


def read(database: Database, caller: Caller, case_id: UUID) -> Case:
    with database.reading() as session:
        return cases.read_case(session, caller, case_id)


def pages(database: Database, caller: Caller, limit: int = 100, **wanted) -> list[list[Case]]:
    """Follow the cursor from page to page until one comes back empty."""
    found: list[list[Case]] = []
    with database.reading() as session:
        while not found or found[-1]:
            before = (found[-1][-1].submitted_at, found[-1][-1].id) if found else None
            found.append(list(cases.list_cases(session, caller, CaseFilter(before=before, **wanted), limit)))
    return found[:-1]


def listed(database: Database, caller: Caller, **wanted) -> list[UUID]:
    return [case.id for page in pages(database, caller, **wanted) for case in page]


def cancel(database: Database, case: Case | Lease, seconds: float = 5) -> Case:
    case_id = case.id if isinstance(case, Case) else case.case_id
    with database.writing() as session:
        return cases.cancel_case(session, clinic_caller(case.clinic_id), case_id, at(seconds))


def delete(database: Database, case: Case, seconds: float = 5) -> None:
    with database.writing() as session:
        cases.delete_case(session, clinic_caller(case.clinic_id), case.id, at(seconds))


def to_erase(database: Database, deleted_before_s: float, limit: int = 100) -> list[tuple[UUID, UUID]]:
    with database.reading() as session:
        found = objects.list_to_erase(session, at(deleted_before_s), limit)
        return [(deleted.clinic_id, deleted.case_id) for deleted in found]


def submission(database: Database, clinic_id: UUID, idempotency_key: str) -> tuple[Case, str] | None:
    with database.reading() as session:
        return cases.find_by_idempotency_key(session, clinic_id, idempotency_key)


def refused_as_not_found(database: Database, caller: Caller, case_id: UUID) -> list[str]:
    """Try to read, cancel and delete; return the code of each refusal."""
    codes = []
    for call in (cases.read_case, cases.cancel_case, cases.delete_case):
        now = () if call is cases.read_case else (at(5),)
        with pytest.raises(NotFound) as caught, database.writing() as session:
            call(session, caller, case_id, *now)
        codes.append(caught.value.code)
    return codes


def test_a_clinic_reads_back_what_it_sent(database, clinic_id):
    case = submit(database, clinic_id, 3, **PERSONAL)
    found = read(database, clinic_caller(clinic_id), case.id)
    assert found == case
    assert (found.state, found.version, found.submitted_at) == (State.QUEUED, 1, at(3))
    assert (found.reference, found.age, found.sex, found.site) == ("A-17", 61, "female", "back")
    assert (found.finished_at, found.problem, found.analysis, found.model_name) == (None, None, None, None)


def test_another_clinics_case_looks_like_one_that_never_existed(database, clinic_id):
    case, stranger = submit(database, clinic_id), clinic_caller(add_clinic(database))
    assert refused_as_not_found(database, stranger, case.id) == ["case_not_found"] * 3
    assert refused_as_not_found(database, stranger, uuid4()) == ["case_not_found"] * 3
    assert listed(database, stranger) == []
    assert read(database, clinic_caller(clinic_id), case.id) == case


def test_a_reviewer_sees_the_cases_of_every_clinic(database, clinic_id):
    sent = [submit(database, clinic, second).id for second, clinic in enumerate([clinic_id, add_clinic(database)])]
    assert listed(database, REVIEWER) == sent[::-1]
    assert [read(database, REVIEWER, case_id).id for case_id in sent] == sent


def test_pages_show_every_case_once_and_newest_first_even_if_they_came_at_the_same_moment(database, clinic_id):
    sent = [submit(database, clinic_id, second).id for second in (0, 1, 1, 1, 1, 1, 2)]
    submit(database, add_clinic(database), 1)
    found = pages(database, clinic_caller(clinic_id), limit=2)
    assert [len(page) for page in found] == [2, 2, 2, 1]
    order = [case.id for page in found for case in page]
    assert (order[0], sorted(order[1:-1]), order[-1]) == (sent[-1], sorted(sent[1:-1]), sent[0])


def test_a_case_that_arrives_during_paging_shifts_nothing(database, clinic_id):
    sent = [submit(database, clinic_id, second).id for second in range(4)]
    caller = clinic_caller(clinic_id)
    with database.reading() as session:
        last = cases.list_cases(session, caller, CaseFilter(), 2)[-1]
    submit(database, clinic_id, 9)
    with database.reading() as session:
        rest = cases.list_cases(session, caller, CaseFilter(before=(last.submitted_at, last.id)), 2)
    assert [case.id for case in rest] == [sent[1], sent[0]]


def test_a_list_can_be_narrowed_to_a_state_and_to_a_reference(database, clinic_id):
    caller = clinic_caller(clinic_id)
    first, second, third = (submit(database, clinic_id, n, reference=name).id for n, name in enumerate("aba"))
    claim(database, 1, 9)
    assert listed(database, caller, state=State.RUNNING) == [first]
    assert listed(database, caller, state=State.QUEUED) == [third, second]
    assert listed(database, caller, reference="a") == [third, first]
    assert listed(database, caller, reference="a", state=State.QUEUED, limit=1) == [third]
    assert listed(database, caller, reference="A") == []


def test_an_idempotency_key_finds_the_case_that_it_made_only_in_its_own_clinic(database, clinic_id):
    case = submit(database, clinic_id, idempotency_key="key-1", request_sha256="a" * 64)
    assert submission(database, clinic_id, "key-1") == (case, "a" * 64)
    assert submission(database, clinic_id, "key-2") is None
    assert submission(database, add_clinic(database), "key-1") is None


def test_an_idempotency_key_makes_one_case_in_each_clinic_and_none_never_collides(database, clinic_id):
    submit(database, clinic_id, idempotency_key="key-1")
    with pytest.raises(Conflict) as caught:
        submit(database, clinic_id, idempotency_key="key-1")
    assert caught.value.code == "idempotency_key_taken"
    submit(database, add_clinic(database), idempotency_key="key-1")
    submit(database, clinic_id)
    submit(database, clinic_id)
    assert len(listed(database, REVIEWER)) == 4


def test_of_simultaneous_requests_with_one_key_exactly_one_makes_a_case(database, clinic_id):
    together = threading.Barrier(4)

    def send(_) -> bool:
        together.wait()
        try:
            submit(database, clinic_id, idempotency_key="key-1")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(send, range(4))) == [False, False, False, True]
    assert len(listed(database, REVIEWER)) == 1


def test_a_waiting_case_can_be_cancelled_and_is_never_claimed(database, clinic_id):
    case = cancel(database, submit(database, clinic_id))
    assert (case.state, case.version, case.finished_at) == (State.CANCELLED, 2, at(5))
    assert read(database, REVIEWER, case.id) == case
    assert claim(database, seconds=9) == []


def test_a_running_case_can_be_cancelled_and_its_worker_records_nothing(database, clinic_id):
    case = submit(database, clinic_id)
    (lease,) = claim(database)
    cancelled = cancel(database, case)
    assert (cancelled.state, cancelled.version) == (State.CANCELLED, 3)
    assert [record(database, lease, 6), reject(database, lease, 6), give_back(database, lease, 6)] == [False] * 3
    assert sweep(database, 999).returned == 0
    assert read(database, REVIEWER, case.id) == cancelled
    assert overlays(database) == {}


@pytest.mark.parametrize("end", [record, reject, lambda database, lease: cancel(database, lease)])
def test_a_final_case_cannot_be_cancelled(database, clinic_id, end):
    case = submit(database, clinic_id)
    end(database, claim(database)[0])
    before = read(database, REVIEWER, case.id)
    with pytest.raises(Conflict) as caught:
        cancel(database, case, 9)
    assert caught.value.code == "case_is_final"
    assert f"This case is final ({before.state})" in caught.value.detail
    assert read(database, REVIEWER, case.id) == before


def test_a_result_is_read_back_with_every_version_that_made_it(database, clinic_id):
    case = submit(database, clinic_id)
    (lease,) = claim(database)
    record(database, lease)
    found = read(database, clinic_caller(clinic_id), case.id)
    assert found.analysis.probabilities == (0.7, 0.2, 0.1)
    assert (found.analysis.decision, found.analysis.operating_point) == (Decision.REFER, POINT)
    assert (found.analysis.model_digest, found.model_name, found.model_version) == (MODEL, "made-up", "1.0")
    with database.reading() as session:
        maps, manifest = cases.read_activation_maps(session, case.id)
    assert (maps, manifest["name"]) == (MAPS, "made-up")


def test_a_case_without_a_result_has_no_heatmap(database, clinic_id):
    case = submit(database, clinic_id)
    with pytest.raises(NotFound, match="heatmap_not_ready"), database.reading() as session:
        cases.read_activation_maps(session, case.id)


def test_a_version_grows_with_every_visible_change_and_with_no_other(database, clinic_id):
    case = submit(database, clinic_id)
    versions = [case.version]

    def note() -> None:
        versions.append(read(database, REVIEWER, case.id).version)

    (first,) = claim(database)
    note()
    give_back(database, first, 1)
    note()
    (second,) = claim(database, seconds=1, lease_s=1)
    note()
    sweep(database, 9)
    note()
    record(database, second, 9)  # too late: no change
    note()
    (third,) = claim(database, seconds=9)
    note()
    record(database, third, 10)
    note()
    record(database, third, 11)  # again: no change
    note()
    assert versions == [1, 2, 3, 4, 5, 5, 6, 7, 7]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED, State.REJECTED, State.CANCELLED])
def test_a_deleted_case_is_gone_for_everyone_whatever_its_state_was(database, clinic_id, state):
    case = submit(database, clinic_id, **PERSONAL)
    leases = [] if state in (State.QUEUED, State.CANCELLED) else claim(database)
    {State.SUCCEEDED: record, State.REJECTED: reject}.get(state, lambda *_: None)(database, *leases)
    if state is State.CANCELLED:
        cancel(database, case)
    delete(database, case)
    for caller in (clinic_caller(clinic_id), REVIEWER):
        assert refused_as_not_found(database, caller, case.id) == ["case_not_found"] * 3
        assert listed(database, caller) == []
    assert [record(database, lease, 6) for lease in leases] == [False] * len(leases)
    assert (overlays(database), claim(database, seconds=999), sweep(database, 999).returned) == ({}, [], 0)


def test_nothing_personal_is_left_in_a_deleted_cases_row_and_its_key_is_free_again(database, clinic_id):
    case = submit(database, clinic_id, **PERSONAL, traceparent=f"00-{'5c' * 16}-{'ab' * 8}-00")
    assert stored(database, case.id)["traceparent"]
    delete(database, case)
    row = stored(database, case.id)
    identifying = ("photograph_key", "sha256", "request_sha256", "width", "height", "size_bytes")
    assert not any(row[name] for name in (*PERSONAL, "traceparent", *identifying))
    assert (row["deleted_at"], row["erased_at"], row["finished_at"]) == (at(5), None, at(5))
    assert submission(database, clinic_id, "key-1") is None
    again = submit(database, clinic_id, **PERSONAL)
    assert submission(database, clinic_id, "key-1")[0] == again


def test_deleting_keeps_when_and_how_a_case_ended(database, clinic_id):
    case = submit(database, clinic_id)
    record(database, claim(database)[0], 1)
    delete(database, case)
    row = stored(database, case.id)
    assert (row["state"], row["finished_at"]) == ("succeeded", at(1))


def test_a_deleted_cases_objects_are_to_be_erased_after_the_grace_until_they_were(database, clinic_id):
    first, second, _ = (submit(database, clinic_id) for _ in range(3))
    delete(database, second, 6)
    delete(database, first, 5)
    assert to_erase(database, 5) == []
    assert to_erase(database, 6) == [(clinic_id, first.id)]
    assert to_erase(database, 7) == [(clinic_id, first.id), (clinic_id, second.id)]
    assert to_erase(database, 7, limit=1) == [(clinic_id, first.id)]
    with database.writing() as session:
        objects.mark_erased(session, first.id, at(8))
    assert to_erase(database, 9) == [(clinic_id, second.id)]
    assert stored(database, first.id)["erased_at"] == at(8)
