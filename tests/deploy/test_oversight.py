"""The operators' commands: the audit trail, failed cases, the purge."""

import json
import logging
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from redis import Redis
from sqlalchemy import text, update

from shared.database import read_clock
from shared.dispatch import ANALYZE_QUEUE
from shared.domain import State
from shared.store import trail
from shared.tables import CaseRow
from tests.deploy.commands import NAME, as_json, fail_a_case, printed, refused
from tests.factories import add_case


def note(database, *actions: str, case_id: UUID | None = None) -> None:
    with database.writing() as session:
        for action in actions:
            trail.audit(session, trail.WORKER, action, [case_id or uuid4()], read_clock(session))


def row_of(database, case_id: UUID) -> CaseRow:
    with database.reading() as session:
        row = session.get(CaseRow, case_id)
        session.expunge(row)
        return row


def test_the_trail_is_listed_newest_first_and_optionally_of_one_case(dermqueue, database):
    case_id = uuid4()
    note(database, "case.succeeded")
    note(database, "case.rejected", case_id=case_id)
    lines = printed(dermqueue("audit", "list"))
    assert [line.split()[0] for line in lines] == ["2", "1"]
    assert all(word in lines[0] for word in ("case.rejected", str(case_id), "worker"))
    assert printed(dermqueue("audit", "list", "--case", str(case_id))) == lines[:1]
    assert printed(dermqueue("audit", "list", "--limit", "1")) == lines[:1]
    (newest, _) = json.loads(dermqueue("audit", "list", "--json").output)["entries"]
    assert (newest["position"], newest["action"], newest["case_id"]) == (2, "case.rejected", str(case_id))


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
        ("UPDATE audit_events SET action = 'x' WHERE position = 2", "Entry 2 does not match"),
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
    assert "The audit trail was altered." in told


def test_a_mistyped_hash_is_no_tampering(dermqueue, database):
    note(database, "case.succeeded")
    with database.reading() as session:
        _, head = trail.read_head(session)
    assert "64 hexadecimal digits" in refused(dermqueue("audit", "verify", "--head", head[:-1]), 2)
    assert printed(dermqueue("audit", "verify", "--head", f" {head.upper()}\n"))


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
        assert printed(dermqueue("failed", "requeue", str(case_id))) == ["The case is queued again."]
        assert broker.llen(ANALYZE_QUEUE) == 1
    row = row_of(database, case_id)
    assert (row.state, row.alone, row.attempts, row.error_code) == (State.QUEUED, True, 0, None)
    with database.reading() as session:
        (entry,) = trail.list_entries(session, case_id, None, 10)
        assert (entry.action, entry.role, entry.key_id) == ("case.requeued", "operator", None)


def test_only_a_failed_case_is_requeued(dermqueue, database, clinic_id):
    waiting = add_case(database, clinic_id)
    assert "only a failed case can be analysed again. [case_not_failed]" in refused(
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
    assert printed(dermqueue("clinic", "set", NAME, "--retention-days", "30", "--yes")) == ["Limits changed."]
    with caplog.at_level(logging.INFO):
        printed(dermqueue("purge"))
    assert "purged cases=1" in caplog.text
    assert row_of(database, outdated).deleted_at is not None
    assert row_of(database, recent).deleted_at is None


def test_failed_cases_are_listed_and_requeued_in_json(dermqueue, database, clinic_id):
    case_id = fail_a_case(database, clinic_id)
    (found,) = as_json(dermqueue("failed", "list", "--json"))["cases"]
    assert (found["id"], found["state"], found["error"]["detail"]) == (str(case_id), "failed", "It never ended.")
    assert as_json(dermqueue("failed", "requeue", str(case_id), "--json"))["state"] == "queued"
