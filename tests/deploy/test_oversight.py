"""The commands of those who run the service, in this process and on the suite's servers."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result
from redis import Redis
from sqlalchemy import select, text, update

from deploy.cli import main
from deploy.commands import access as access_commands
from deploy.commands import oversight
from deploy.commands import queue as queue_commands
from shared.database import open_database, read_clock
from shared.dispatch import ANALYZE_QUEUE, make_celery
from shared.domain import Problem, Role, State
from shared.store import access, models, queue, trail, workers
from shared.store.workers import Worker
from shared.tables import ApiKeyRow, CaseRow, ClinicRow
from tests.factories import add_case, add_clinic, add_key

NAME = "Clinic North"


@pytest.fixture
def dermqueue(settings, tmp_path, monkeypatch) -> Iterator[Callable[..., Result]]:
    """Run a command; what it opened for good, as a process of its own may, is closed at the end."""
    names = ("database_url", "broker_url", "s3_bucket", "s3_endpoint_url", "s3_access_key")
    variables = {f"DERMQUEUE_{name.upper()}": str(getattr(settings, name)) for name in names}
    variables["DERMQUEUE_S3_SECRET_KEY"] = settings.s3_secret_key.get_secret_value()
    opened: list[Callable[[], None]] = []

    def open_and_remember(url: str):
        database = open_database(url)
        opened.append(database.engine.dispose)
        return database

    def make_and_remember(settings):
        celery = make_celery(settings)
        opened.append(celery.close)
        return celery

    for module in (access_commands, oversight, queue_commands):
        monkeypatch.setattr(module, "open_database", open_and_remember)
    monkeypatch.setattr(oversight, "make_celery", make_and_remember)
    yield lambda *arguments: CliRunner().invoke(main, [*arguments, "--data-dir", str(tmp_path)], env=variables)
    for close in opened:
        close()


@pytest.fixture
def clinic_id(database) -> UUID:
    return add_clinic(database, NAME)


def printed(done: Result) -> list[str]:
    assert (done.exit_code, done.exception) == (0, None), done.output
    return done.stdout.splitlines()


def refused(done: Result, exit_code: int = 1) -> str:
    assert done.exit_code == exit_code
    assert isinstance(done.exception, SystemExit)  # a sentence, no traceback
    return done.stderr


def note(database, *actions: str, case_id: UUID | None = None) -> None:
    with database.writing() as session:
        for action in actions:
            trail.audit(session, trail.WORKER, action, [case_id or uuid4()], read_clock(session))


def fail_a_case(database, clinic_id: UUID, detail: str = "It never ended.") -> UUID:
    case = add_case(database, clinic_id)
    with database.writing() as session:
        now = read_clock(session)
        (lease,) = queue.claim_cases(session, 1, 60, now)
        assert queue.record_problem(session, lease, Problem(State.FAILED, "analysis_failed", detail), now)
    return case.id


def row_of(database, case_id: UUID) -> CaseRow:
    with database.reading() as session:
        row = session.get(CaseRow, case_id)
        session.expunge(row)
        return row


def test_the_trail_is_listed_newest_first_and_of_one_case_if_wished(dermqueue, database):
    case_id = uuid4()
    note(database, "case.succeeded")
    note(database, "case.rejected", case_id=case_id)
    lines = printed(dermqueue("audit", "list"))
    assert [line.split()[0] for line in lines] == ["2", "1"]
    assert all(word in lines[0] for word in ("case.rejected", str(case_id), "worker"))
    assert printed(dermqueue("audit", "list", "--case", str(case_id))) == lines[:1]
    assert printed(dermqueue("audit", "list", "--limit", "1")) == lines[:1]


def test_a_sound_trail_is_verified_with_its_length_and_a_hash_to_note(dermqueue, database):
    assert printed(dermqueue("audit", "verify")) == [f"0 entries, newest hash {'0' * 64}"]
    note(database, "case.succeeded")
    (line,) = printed(dermqueue("audit", "verify"))
    noted = line.removeprefix("1 entries, newest hash ")
    note(database, "case.failed")
    (later,) = printed(dermqueue("audit", "verify", "--head", noted))
    assert later.startswith("2 entries")


@pytest.mark.parametrize(
    ("tampering", "sentence"),
    [
        ("UPDATE audit_events SET action = 'x' WHERE position = 2", "Entry 2 does not follow"),
        ("DELETE FROM audit_events WHERE position = 2", "Entries 2 to 2 are missing."),
        ("DELETE FROM audit_events WHERE position = 3", "The expected hash is not in the chain"),
    ],
)
def test_a_trail_that_was_tampered_with_ends_the_command_with_1_and_says_where(
    dermqueue, database, tampering, sentence
):
    note(database, "case.succeeded", "case.failed", "case.rejected")
    with database.writing() as session:
        _, head = trail.read_head(session)
        session.execute(text(tampering))
    told = refused(dermqueue("audit", "verify", "--head", head))
    assert sentence in told
    assert "The audit trail is not what was written." in told


def test_failed_cases_are_listed_with_the_reason_and_no_others(dermqueue, database, clinic_id):
    assert printed(dermqueue("failed", "list")) == []
    failed = [fail_a_case(database, clinic_id) for _ in range(2)]
    add_case(database, clinic_id)
    lines = printed(dermqueue("failed", "list"))
    assert [line.split()[0] for line in lines] == [str(case_id) for case_id in reversed(failed)]
    assert all(line.endswith("analysis_failed  It never ended.") for line in lines)
    assert printed(dermqueue("failed", "list", "--limit", "1")) == lines[:1]


def test_a_requeued_case_waits_alone_with_new_attempts_is_rung_for_and_on_record(
    dermqueue, database, clinic_id, servers
):
    case_id = fail_a_case(database, clinic_id)
    with Redis.from_url(servers["broker_url"]) as broker:
        broker.delete(ANALYZE_QUEUE)
        assert printed(dermqueue("failed", "requeue", str(case_id))) == ["The case waits again."]
        assert broker.llen(ANALYZE_QUEUE) == 1
    row = row_of(database, case_id)
    assert (row.state, row.alone, row.attempts, row.error_code) == (State.QUEUED, True, 0, None)
    with database.reading() as session:
        (entry,) = trail.list_entries(session, case_id, None, 10)
        assert (entry.action, entry.role, entry.key_id) == ("case.requeued", "operator", None)


def test_only_a_failed_case_is_requeued(dermqueue, database, clinic_id):
    waiting = add_case(database, clinic_id)
    assert "only a failed one can be analysed again. [case_not_failed]" in refused(
        dermqueue("failed", "requeue", str(waiting.id))
    )
    assert "[case_not_found]" in refused(dermqueue("failed", "requeue", str(uuid4())))
    assert "not a valid UUID" in refused(dermqueue("failed", "requeue", "42"), 2)
    assert printed(dermqueue("audit", "list")) == []


def test_the_purge_deletes_what_is_past_its_retention_at_once(dermqueue, database, clinic_id, caplog):
    outdated, recent = fail_a_case(database, clinic_id), fail_a_case(database, clinic_id)
    with database.writing() as session:
        long_ago = read_clock(session) - timedelta(days=31)
        session.execute(update(CaseRow).where(CaseRow.id == outdated).values(finished_at=long_ago))
    assert printed(dermqueue("clinic", "set", NAME, "--retention-days", "30")) == ["The limits are changed."]
    with caplog.at_level(logging.INFO):
        printed(dermqueue("purge"))
    assert "purged cases=1" in caplog.text
    assert row_of(database, outdated).deleted_at is not None
    assert row_of(database, recent).deleted_at is None


def test_a_clinics_limits_are_set_listed_and_taken_away(dermqueue, database, clinic_id):
    def limits() -> tuple[int | None, int | None]:
        with database.reading() as session:
            return session.execute(select(ClinicRow.waiting_limit, ClinicRow.retention_days)).one()

    printed(dermqueue("clinic", "set", NAME, "--waiting-limit", "500", "--retention-days", "90"))
    assert limits() == (500, 90)
    (line,) = printed(dermqueue("clinic", "list"))
    assert all(word in line for word in (str(clinic_id), "waiting limit 500", "kept 90 days", NAME))
    printed(dermqueue("clinic", "set", str(clinic_id), "--retention-days", "none"))
    assert limits() == (500, None)
    printed(dermqueue("clinic", "set", NAME, "--waiting-limit", "none"))
    (line,) = printed(dermqueue("clinic", "list"))
    assert all(word in line for word in ("waiting limit default", "kept for ever"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([NAME], "Say which limit"),
        ([NAME, "--waiting-limit", "0"], "not in the range"),
        ([NAME, "--waiting-limit", str(2**31)], "not in the range"),
        ([NAME, "--retention-days", "soon"], "not a valid integer"),
        ([NAME, "--retention-days", "1000000"], "not in the range"),  # before the year 0
    ],
)
def test_a_limit_that_is_none_is_refused(dermqueue, clinic_id, arguments, sentence):
    assert sentence in refused(dermqueue("clinic", "set", *arguments), 2)


def test_limits_of_a_clinic_that_is_not_there_are_refused(dermqueue):
    told = refused(dermqueue("clinic", "set", "Clinic West", "--waiting-limit", "5"))
    assert "There is no clinic 'Clinic West'." in told


def test_a_key_for_so_many_days_expires_then(dermqueue, database, clinic_id):
    (key,) = printed(dermqueue("key", "add", "--clinic", NAME, "--days", "30"))
    with database.reading() as session:
        assert access.authenticate(session, key).clinic_id == clinic_id
        left = session.scalar(select(ApiKeyRow.expires_at)) - read_clock(session)
    assert timedelta(days=29.9) < left <= timedelta(days=30)
    assert "not in the range" in refused(dermqueue("key", "add", "--role", "admin", "--days", "0"), 2)
    assert "not in the range" in refused(dermqueue("key", "add", "--role", "admin", "--days", "9999999"), 2)


def test_the_list_of_keys_says_whose_they_are_and_whether_they_open_and_no_secret(dermqueue, database, clinic_id):
    valid, revoked = add_key(database, Role.CLINIC, clinic_id), add_key(database, Role.ADMIN)
    with database.writing() as session:
        now = read_clock(session)
        access.revoke_key(session, revoked, now)
        expired, expiring = (
            access.add_key(session, Role.REVIEWER, None, now, now + timedelta(days=days)) for days in (-1, 1)
        )
        access.note_use(session, access.authenticate(session, valid).key_id, now)
    done = dermqueue("key", "list")
    lines = {line.split()[0]: line for line in printed(done)}
    expected = {
        valid: ("clinic", f"used {now:%Y-%m-%d %H:%M}", "valid", NAME),
        revoked: ("admin", "used never", "revoked"),
        expired: ("reviewer", f"expired {now - timedelta(days=1):%Y-%m-%d}"),
        expiring: ("reviewer", f"valid until {now + timedelta(days=1):%Y-%m-%d}"),
    }
    assert len(lines) == 4
    for key, words in expected.items():
        _, prefix, secret = key.split("_", 2)
        assert all(word in lines[prefix] for word in words), lines[prefix]
        assert secret not in done.output


def test_a_rotation_prints_a_key_that_opens_and_says_how_long_the_old_one_does(dermqueue, database, clinic_id):
    old = add_key(database, Role.CLINIC, clinic_id)
    prefix = old.split("_")[1]
    (new,) = printed(dermqueue("key", "rotate", prefix))
    with database.reading() as session:
        assert access.authenticate(session, new).clinic_id == access.authenticate(session, old).clinic_id == clinic_id
        expires_at = session.scalar(select(ApiKeyRow.expires_at).where(ApiKeyRow.prefix == prefix))
        assert timedelta(days=6.9) < expires_at - read_clock(session) <= timedelta(days=7)
    (line,) = [line for line in printed(dermqueue("key", "list")) if line.startswith(prefix)]
    assert f"valid until {expires_at:%Y-%m-%d}" in line
    printed(dermqueue("key", "rotate", prefix, "--overlap-days", "0"))
    (line,) = [line for line in printed(dermqueue("key", "list")) if line.startswith(prefix)]
    assert "expired" in line
    assert "[key_not_found]" in refused(dermqueue("key", "rotate", prefix))


def as_json(done: Result) -> dict:
    (line,) = printed(done)
    return json.loads(line)


def test_the_queue_is_told_in_words_and_in_json(dermqueue, database, clinic_id):
    fail_a_case(database, clinic_id)
    add_case(database, clinic_id)
    told = printed(dermqueue("queue"))
    assert told[0].startswith("1 waiting, 0 running, oldest 0 min")
    assert told[1] == "workers needed to be clear in 30 minutes: unknown until a worker has measured its rate"
    assert told[2].endswith(NAME)
    assert "0 succeeded     0 rejected     1 failed" in told[3]
    found = as_json(dermqueue("queue", "--minutes", "5", "--json"))
    assert (found["waiting"], found["clear_in_minutes"], found["hours"][0]["failed"]) == (1, 5, 1)


def test_workers_are_told_in_words_and_in_json(dermqueue, database):
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


def test_what_the_commands_do_to_clinics_and_keys_is_told_in_json_and_on_record(dermqueue, database):
    added = as_json(dermqueue("clinic", "add", NAME, "--json"))
    changed = as_json(dermqueue("clinic", "set", NAME, "--waiting-limit", "7", "--json"))
    assert changed == added | {"waiting_limit": 7}
    assert as_json(dermqueue("clinic", "list", "--json"))["clinics"] == [changed]
    made = as_json(dermqueue("key", "add", "--clinic", NAME, "--json"))
    rotated = as_json(dermqueue("key", "rotate", made["prefix"], "--json"))
    as_json(dermqueue("key", "revoke", made["prefix"], "--json"))
    states = {key["prefix"]: key["state"] for key in as_json(dermqueue("key", "list", "--json"))["keys"]}
    assert states == {made["prefix"]: "revoked", rotated["prefix"]: "valid"}
    with database.reading() as session:
        entries = [(row.action, row.role) for row in trail.list_entries(session, None, None, 9)]
    done = ("key.revoked", "key.rotated", "key.added", "clinic.changed", "clinic.added")
    assert entries == [(action, "operator") for action in done]


def test_failed_cases_are_listed_and_requeued_in_json(dermqueue, database, clinic_id):
    case_id = fail_a_case(database, clinic_id)
    (found,) = as_json(dermqueue("failed", "list", "--json"))["cases"]
    assert (found["id"], found["state"], found["error"]["detail"]) == (str(case_id), "failed", "It never ended.")
    assert as_json(dermqueue("failed", "requeue", str(case_id), "--json"))["state"] == "queued"
