"""The commands of the admin's daily work: the queue, the workers, the webhooks."""

from datetime import timedelta
from uuid import uuid4

from shared.database import read_clock
from shared.store import models, workers
from shared.store.workers import Worker
from tests.deploy.commands import NAME, as_json, fail_a_case, printed, refused
from tests.factories import add_case


def test_the_queue_is_printed_as_text_and_as_json(dermqueue, database, clinic_id):
    fail_a_case(database, clinic_id)
    add_case(database, clinic_id)
    told = printed(dermqueue("queue"))
    assert told[0].startswith("1 waiting, 0 running, oldest 0 min")
    assert told[1] == "workers needed to clear the backlog in 30 minutes: unknown until a worker has measured its rate"
    assert told[2].endswith(NAME)
    assert "0 succeeded     0 rejected     1 failed" in told[3]
    found = as_json(dermqueue("queue", "--minutes", "5", "--json"))
    assert (found["waiting"], found["clear_in_minutes"], found["hours"][0]["failed"]) == (1, 5, 1)


def test_workers_are_printed_as_text_and_as_json(dermqueue, database):
    with database.writing() as session:
        now = read_clock(session)
        models.activate_model(session, "d" * 64, {"name": "made-up", "version": "1.0"}, "# Card", now)
        for name, rate, seen in (("here:1", 90.4, now), ("there:2", None, now - timedelta(hours=2))):
            workers.note_worker(session, Worker(uuid4(), name, "cpu", 16, "d" * 64, rate), seen)
    alive, gone = printed(dermqueue("workers"))
    assert "alive" in alive
    assert "90 images/min" in alive
    assert "gone for 2 h 0 min" in gone
    found = as_json(dermqueue("workers", "--json"))["workers"]
    assert [(worker["name"], worker["alive"]) for worker in found] == [("here:1", True), ("there:2", False)]


def test_a_webhook_is_added_listed_enabled_and_removed(dermqueue, database, clinic_id):
    (secret,) = printed(dermqueue("webhook", "add", "https://clinic.example/hook", "--clinic", NAME))
    other = as_json(dermqueue("webhook", "add", "https://clinic.example/other", "--clinic", NAME, "--json"))
    printed(dermqueue("webhook", "remove", other["id"]))
    assert secret.startswith("whsec_")
    (line,) = printed(dermqueue("webhook", "list"))
    assert "enabled" in line
    assert secret not in line
    (found,) = as_json(dermqueue("webhook", "list", "--json"))["webhooks"]
    assert (found["url"], found["clinic_id"]) == ("https://clinic.example/hook", str(clinic_id))
    printed(dermqueue("webhook", "enable", found["id"]))
    printed(dermqueue("webhook", "remove", found["id"]))
    assert printed(dermqueue("webhook", "list")) == []
    refused(dermqueue("webhook", "remove", found["id"]))
