"""How one worker takes cases to their end, on the real database and object store."""

import io
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import func, select, update

from shared.database import read_clock
from shared.domain import CLASSES, Decision, State, find_plausible
from shared.errors import ObjectMissing, Unavailable
from shared.heatmap import OVERLAY_SIDE
from shared.photograph import decode_photograph
from shared.store import cases, queue
from shared.tables import AnalysisRow, CaseRow
from tests import images
from tests.factories import add_case, add_photograph, clinic_caller
from tests.worker.conftest import CountingDoorbell
from tests.worker.networks import SIDE, BrokenNetwork, TinyNetwork, preprocess_to, tiny_model, tiny_model_that_knows
from tests.worker.steps import Away, jpeg, lapse_leases, state_of
from worker.frame import DECODED_SIDE, squash


def test_a_waiting_case_gets_its_result_maps_and_overlay(make_triage, database, store, clinic_id):
    data = jpeg()
    case = add_photograph(database, store, clinic_id, data)
    model = tiny_model()
    make_triage(model).analyze_waiting()
    with database.reading() as session:
        done = cases.read_case(session, clinic_caller(clinic_id), case.id)
        maps, manifest = cases.read_activation_maps(session, case.id)
    expected = model.read(squash(decode_photograph(data, DECODED_SIDE), model.manifest.preprocessing)[None])
    assert done.state is State.SUCCEEDED
    assert done.analysis.probabilities == pytest.approx(tuple(expected.probabilities[0]))
    assert sum(done.analysis.probabilities) == pytest.approx(1)
    assert done.analysis.decision is (Decision.REFER if done.analysis.melanoma_probability >= 0.2 else Decision.ROUTINE)
    stored = np.frombuffer(maps.values, "<f4").reshape(len(CLASSES), maps.height, maps.width)
    np.testing.assert_array_equal(stored, expected.maps[0])
    assert (done.model_name, done.model_version, done.analysis.model_digest) == ("tiny", "1", "d" * 64)
    assert done.analysis.preprocessing == f"squash-256-jpeg-bilinear-{SIDE}-imagenet"
    assert done.analysis.code_version
    assert manifest["name"] == "tiny"
    overlay = images.Image.open(io.BytesIO(store.get(done.analysis.overlay_key)))
    assert (overlay.format, overlay.size) == ("JPEG", (320, 240))


@pytest.mark.parametrize("plausible_from", [None, (0.2, 0.9, 0.3)])
def test_a_result_names_the_plausible_diagnoses_if_the_bundle_can_tell(
    make_triage, database, store, clinic_id, plausible_from
):
    case = add_photograph(database, store, clinic_id, jpeg())
    make_triage(tiny_model(plausible_from=plausible_from)).analyze_waiting()
    with database.reading() as session:
        analysis = cases.read_case(session, clinic_caller(clinic_id), case.id).analysis
    expected = plausible_from and find_plausible(analysis.probabilities, plausible_from, analysis.decision)
    assert analysis.plausible == expected


def test_an_overlay_of_a_large_photograph_keeps_its_aspect(make_triage, database, store, clinic_id):
    large = images.lesion(400, 300).resize((4000, 3000))
    case = add_photograph(database, store, clinic_id, images.encode(large, "PNG"))
    make_triage(tiny_model()).analyze_waiting()
    with database.reading() as session:
        key = cases.read_case(session, clinic_caller(clinic_id), case.id).analysis.overlay_key
    width, height = images.Image.open(io.BytesIO(store.get(key))).size
    assert max(width, height) <= OVERLAY_SIDE
    assert width / height == pytest.approx(4 / 3, rel=0.02)


def test_everything_that_waits_is_taken_in_batches_with_one_forward_pass_each(make_triage, database, store, clinic_id):
    class Counting(TinyNetwork):
        sizes: list[int] = []  # noqa: RUF012

        def look(self, pixels):
            self.sizes.append(len(pixels))
            return super().look(pixels)

    queued = [add_photograph(database, store, clinic_id, jpeg()) for _ in range(10)]
    make_triage(tiny_model(Counting()), batch_size=4).analyze_waiting()
    assert Counting.sizes == [4, 4, 2]
    assert {state_of(database, case)[0] for case in queued} == {State.SUCCEEDED}


def test_a_result_warns_of_a_photograph_that_is_dark_and_of_one_that_is_unlike_the_training_images(
    make_triage, database, store, clinic_id
):
    known = jpeg()
    model = tiny_model_that_knows(squash(decode_photograph(known, DECODED_SIDE), preprocess_to(SIDE))[None])
    dark = images.encode(images.lesion().point(lambda level: level // 5), "PNG")
    queued = [add_photograph(database, store, clinic_id, data) for data in (known, dark)]
    make_triage(model).analyze_waiting()
    with database.reading() as session:
        done = [cases.read_case(session, clinic_caller(clinic_id), case.id).analysis for case in queued]
    assert done[0].warnings == ()
    assert {"dark", "not_dermoscopic"} <= set(done[1].warnings)


def test_a_photograph_that_is_nearly_black_is_rejected_and_its_neighbours_go_on(
    make_triage, database, store, clinic_id
):
    black = images.encode(images.lesion().point(lambda level: level // 15), "PNG")
    good, bad = (add_photograph(database, store, clinic_id, data) for data in (jpeg(), black))
    make_triage().analyze_waiting()
    assert state_of(database, bad)[:2] == (State.REJECTED, "image_dark")
    assert state_of(database, good)[0] == State.SUCCEEDED


@pytest.mark.parametrize("kind", images.refused_when_decoded())
def test_a_photograph_that_cannot_be_analysed_is_rejected_and_its_neighbours_go_on(
    make_triage, database, store, clinic_id, kind
):
    data, code = images.refused_when_decoded()[kind]
    good, bad = (add_photograph(database, store, clinic_id, d) for d in (jpeg(), data))
    make_triage().analyze_waiting()
    assert state_of(database, bad)[:2] == (State.REJECTED, code)
    assert state_of(database, good)[0] == State.SUCCEEDED


def test_a_case_whose_photograph_is_missing_or_changed_fails_for_a_human(make_triage, database, store, clinic_id):
    gone, changed = (add_photograph(database, store, clinic_id, jpeg()) for _ in range(2))
    store.delete(gone.photograph.key)
    store.put(changed.photograph.key, jpeg(400, 300), "image/jpeg")
    make_triage().analyze_waiting()
    assert state_of(database, gone)[:2] == (State.FAILED, "object_missing")
    assert state_of(database, changed)[:2] == (State.FAILED, "object_damaged")


def test_only_the_photograph_that_the_network_chokes_on_fails(make_triage, database, store, clinic_id):
    dark = images.encode(images.lesion().point(lambda level: level // 4), "PNG")
    good, bad = (add_photograph(database, store, clinic_id, d) for d in (jpeg(), dark))
    make_triage(tiny_model(BrokenNetwork())).analyze_waiting()
    assert state_of(database, bad)[:2] == (State.FAILED, "model_output_invalid")
    assert state_of(database, good)[0] == State.SUCCEEDED


@pytest.mark.parametrize("verb", ["get", "put"])
def test_an_unavailable_object_store_costs_the_case_no_attempt(make_triage, database, store, clinic_id, verb):
    case = add_photograph(database, store, clinic_id, jpeg())
    make_triage(store=Away(store, verb)).analyze_waiting()
    assert state_of(database, case) == (State.QUEUED, None, 0)
    with database.reading() as session:
        assert session.get(CaseRow, case.id).available_at > read_clock(session)


class _Crashing(TinyNetwork):
    """Fails at every photograph, but reads the black frame that tells whether the device works."""

    def look(self, pixels):
        if (pixels > -2).any():
            raise RuntimeError("no kernel image is available")
        return super().look(pixels)


def test_a_case_that_breaks_the_analysis_is_tried_alone_and_fails_after_three_attempts(
    make_triage, database, store, clinic_id
):
    pair = [add_photograph(database, store, clinic_id, jpeg()) for _ in range(2)]
    triage = make_triage(tiny_model(_Crashing()))
    for _ in range(5):
        triage.analyze_waiting()
        with database.writing() as session:
            assert set(session.scalars(select(CaseRow.alone))) == {True}
            session.execute(update(CaseRow).values(available_at=CaseRow.submitted_at))
    assert [state_of(database, case) for case in pair] == [(State.FAILED, "analysis_failed", 3)] * 2


def test_a_case_that_failed_and_is_requeued_has_three_new_attempts_alone(make_triage, database, store, clinic_id):
    case = add_photograph(database, store, clinic_id, jpeg())
    triage = make_triage(tiny_model(_Crashing()))

    def try_until_it_fails() -> list[int]:
        attempts = []
        while state_of(database, case)[0] != State.FAILED:
            triage.analyze_waiting()
            attempts.append(state_of(database, case)[2])
            with database.writing() as session:
                session.execute(update(CaseRow).values(available_at=CaseRow.submitted_at))
        return attempts

    first = try_until_it_fails()
    with database.writing() as session:
        cases.requeue_case(session, case.id, read_clock(session))
        assert session.scalar(select(CaseRow.alone))
    assert first == try_until_it_fails() == [1, 2, 3]


def test_a_result_that_comes_after_the_case_was_cancelled_is_dropped_with_its_overlay(
    make_triage, database, store, clinic_id
):
    case = add_photograph(database, store, clinic_id, jpeg())
    overlays = []

    class CancelledMeanwhile(Away):
        def put(self, key, data, media_type):
            self._store.put(key, data, media_type)
            overlays.append(key)
            with database.writing() as session:
                cases.cancel_case(session, clinic_caller(clinic_id), case.id, read_clock(session))

    make_triage(store=CancelledMeanwhile(store, "")).analyze_waiting()
    assert state_of(database, case)[0] == State.CANCELLED
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(AnalysisRow)) == 0
    with pytest.raises(ObjectMissing):
        store.get(overlays[0])


def test_recording_waits_for_a_briefly_unavailable_database(make_triage, database, store, clinic_id, monkeypatch):
    case = add_photograph(database, store, clinic_id, jpeg())
    failures = iter([Unavailable("database_unavailable", "away")] * 2)
    record = queue.record_analyses

    def flaky(*arguments):
        for failure in failures:
            raise failure
        return record(*arguments)

    monkeypatch.setattr(queue, "record_analyses", flaky)
    make_triage().analyze_waiting()
    assert state_of(database, case)[0] == State.SUCCEEDED


def test_a_case_whose_worker_vanished_is_claimed_again_without_waiting_for_the_sweeper(
    make_triage, database, store, clinic_id
):
    case = add_photograph(database, store, clinic_id, jpeg())
    with database.writing() as session:
        queue.claim_cases(session, limit=1, lease_s=60, now=read_clock(session))
    lapse_leases(database)
    make_triage(tiny_model()).analyze_waiting()
    assert state_of(database, case) == ("succeeded", None, 2)


def test_the_sweeper_rings_for_what_waits_and_returns_what_was_lost(make_triage, database, clinic_id):
    doorbell = CountingDoorbell()
    triage = make_triage(doorbell=doorbell, batch_size=4, worker_threads=2)
    triage.sweep()
    assert doorbell.rings == 0
    lost = add_case(database, clinic_id)
    with database.writing() as session:
        queue.claim_cases(session, 1, 60, read_clock(session))
    lapse_leases(database)
    triage.sweep()
    assert doorbell.rings == 1
    assert state_of(database, lost)[0] == State.QUEUED


def test_the_sweeper_rings_for_what_was_submitted_before_the_clock_was_set_back(
    make_triage, database, store, clinic_id
):
    doorbell = CountingDoorbell()
    triage = make_triage(doorbell=doorbell)
    hidden = add_photograph(database, store, clinic_id, jpeg())
    for ahead_s, rings in ((250, 0), (350, 1)):
        with database.writing() as session:
            ahead = read_clock(session) + timedelta(seconds=ahead_s)
            session.execute(update(CaseRow).values(available_at=ahead, submitted_at=ahead))
        triage.sweep()
        assert doorbell.rings == rings
    triage.analyze_waiting()
    assert state_of(database, hidden)[0] == State.SUCCEEDED


def test_the_sweeper_erases_the_objects_of_a_deleted_case_once_its_lease_has_passed(
    make_triage, database, store, clinic_id
):
    case = add_photograph(database, store, clinic_id, jpeg())
    with database.writing() as session:
        cases.delete_case(session, clinic_caller(clinic_id), case.id, read_clock(session))
    triage = make_triage()
    triage.sweep()
    assert store.get(case.photograph.key)
    with database.writing() as session:
        session.execute(update(CaseRow).values(deleted_at=read_clock(session) - timedelta(hours=1)))
    triage.sweep()
    with pytest.raises(ObjectMissing):
        store.get(case.photograph.key)
    with database.reading() as session:
        assert session.get(CaseRow, case.id).erased_at is not None
