"""The admins' queue in numbers."""

from datetime import timedelta
from uuid import uuid4

import pytest

from shared.database import read_clock
from shared.store import workers
from shared.store.workers import Worker
from tests.api.calls import MODEL_DIGEST, activate_model, record_problem


def test_an_empty_queue_says_so(admin):
    answer = admin.get("/v1/admin/queue").json
    assert answer | {"waiting": 0, "running": 0, "oldest": None, "workers_needed": None} == answer
    assert answer["clinics"] == answer["hours"] == answer["workers"] == []


def test_the_queue_tells_what_waits_what_ended_and_how_many_workers_it_needs(admin, clinic, database):
    failed, *waiting = [clinic.submit() for _ in range(4)]
    record_problem(database, failed.json["id"])
    activate_model(database)
    with database.writing() as session:
        fast = Worker(uuid4(), "here:1", "cpu", 16, MODEL_DIGEST, 2.0)
        workers.note_worker(session, fast, read_clock(session))
    answer = admin.get("/v1/admin/queue?minutes=1").json
    assert (answer["waiting"], answer["running"], answer["clear_in_minutes"]) == (3, 0, 1)
    assert answer["oldest"] == waiting[0].json["submitted_at"]
    assert answer["arriving_per_minute"] == pytest.approx(4 / 60)
    assert answer["workers_needed"] == 2
    assert [(load["id"], load["waiting"]) for load in answer["clinics"]] == [(str(clinic.id), 3)]
    assert [(hour["succeeded"], hour["failed"]) for hour in answer["hours"]] == [(0, 1)]
    assert [(worker["name"], worker["alive"], worker["model"]) for worker in answer["workers"]] == [
        ("here:1", True, "made-up 1.2.3")
    ]


def test_a_worker_that_is_gone_counts_only_while_no_other_is_measured(admin, clinic, database):
    activate_model(database)
    for _ in range(4):
        clinic.submit()

    def needed_with(images_per_minute: float, ago: timedelta) -> int:
        with database.writing() as session:
            worker = Worker(uuid4(), "here:1", "cpu", 16, MODEL_DIGEST, images_per_minute)
            workers.note_worker(session, worker, read_clock(session) - ago)
        return admin.get("/v1/admin/queue?minutes=1").json["workers_needed"]

    assert needed_with(1000.0, timedelta(hours=1)) == 1
    assert needed_with(2.0, timedelta()) == 3
