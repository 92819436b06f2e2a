"""The commands of clinics and their keys."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from shared.database import read_clock
from shared.domain import Role
from shared.store import access, trail
from shared.tables import ApiKeyRow, CaseRow, ClinicRow
from tests.deploy.commands import NAME, as_json, fail_a_case, printed, refused
from tests.factories import add_key


def test_a_clinics_limits_are_set_listed_and_removed(dermqueue, database, clinic_id):
    def limits() -> tuple[int | None, int | None]:
        with database.reading() as session:
            return session.execute(select(ClinicRow.waiting_limit, ClinicRow.retention_days)).one()

    printed(dermqueue("clinic", "set", NAME, "--waiting-limit", "500", "--retention-days", "90", "--yes"))
    assert limits() == (500, 90)
    (line,) = printed(dermqueue("clinic", "list"))
    assert all(word in line for word in (str(clinic_id), "waiting limit 500", "kept 90 days", NAME))
    printed(dermqueue("clinic", "set", str(clinic_id), "--retention-days", "none"))
    assert limits() == (500, None)
    printed(dermqueue("clinic", "set", NAME, "--waiting-limit", "none"))
    (line,) = printed(dermqueue("clinic", "list"))
    assert all(word in line for word in ("waiting limit default", "kept for ever"))


@pytest.mark.parametrize("name", ["", "x" * 201, "Line\nbreak"], ids=["empty", "long", "two lines"])
def test_a_clinics_name_is_checked_as_the_api_does(dermqueue, database, name):
    refused(dermqueue("clinic", "add", name), 2)
    with database.reading() as session:
        assert access.list_clinics(session) == []


def test_before_a_retention_is_shortened_it_says_how_many_cases_will_be_erased(dermqueue, database, clinic_id):
    def set_to(days: str, answer: str = "") -> tuple[bool, int | None]:
        """Return whether the question was asked, and for how many days cases are kept after the answer."""
        done = dermqueue("clinic", "set", NAME, "--retention-days", days, input=answer)
        with database.reading() as session:
            kept_days = access.read_clinic(session, clinic_id).retention_days
        return f"Cases of {NAME} that the next purge will erase for good: 1. Continue?" in done.stderr, kept_days

    fail_a_case(database, clinic_id)
    with database.writing() as session:
        session.execute(update(CaseRow).values(finished_at=read_clock(session) - timedelta(days=31)))
    assert [set_to("30", answer) for answer in ("", "n", "y")] == [(True, None), (True, None), (True, 30)]
    assert [set_to("29", answer) for answer in ("", "y")] == [(True, 30), (True, 29)]
    assert [set_to(days) for days in ("31", "none")] == [(False, 31), (False, None)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([NAME], "Give --waiting-limit"),
        ([NAME, "--waiting-limit", "0"], "not in the range"),
        ([NAME, "--waiting-limit", str(2**31)], "not in the range"),
        ([NAME, "--retention-days", "soon"], "not a valid integer"),
        ([NAME, "--retention-days", "1000000"], "not in the range"),  # before the year 0
    ],
)
def test_an_invalid_limit_is_refused(dermqueue, clinic_id, arguments, sentence):
    assert sentence in refused(dermqueue("clinic", "set", *arguments), 2)


def test_limits_of_a_clinic_that_does_not_exist_are_refused(dermqueue):
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


def test_the_list_of_keys_shows_whose_they_are_and_whether_they_are_valid_but_no_secret(dermqueue, database, clinic_id):
    valid, revoked = add_key(database, Role.CLINIC, clinic_id), add_key(database, Role.ADMIN)
    with database.writing() as session:
        now = read_clock(session)
        access.revoke_key(session, revoked, now)
        expired, expiring = (
            access.add_key(session, Role.REVIEWER, None, now, now + timedelta(days=days)).key for days in (-1, 1)
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


def test_a_rotation_prints_a_valid_key_and_limits_the_old_one(dermqueue, database, clinic_id):
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
    (newest,) = printed(dermqueue("key", "rotate", new.split("_")[1], "--days", "30"))
    lines = {line.split()[0]: line for line in printed(dermqueue("key", "list"))}
    assert f"valid until {datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}" in lines[newest.split("_")[1]]


def test_whoever_revokes_a_clinics_key_is_told_that_webhooks_stay(dermqueue, database, clinic_id):
    clinics, admins = add_key(database, Role.CLINIC, clinic_id), add_key(database, Role.ADMIN)
    told = [dermqueue("key", "revoke", key.split("_")[1]) for key in (clinics, admins)]
    assert [printed(one) for one in told] == [["Key revoked."]] * 2
    assert ["dermqueue webhook list" in one.stderr for one in told] == [True, False]


def test_a_change_that_is_refused_is_not_on_record(dermqueue, database, clinic_id):
    refused(dermqueue("clinic", "add", NAME))
    refused(dermqueue("key", "revoke", "0" * 12))
    with database.reading() as session:
        assert trail.list_entries(session, None, None, 9) == []


def test_what_the_commands_do_to_clinics_and_keys_is_printed_as_json_and_on_record(dermqueue, database):
    added = as_json(dermqueue("clinic", "add", NAME, "--json"))
    changed = as_json(dermqueue("clinic", "set", NAME, "--waiting-limit", "7", "--json"))
    assert changed == added | {"waiting_limit": 7}
    assert as_json(dermqueue("clinic", "list", "--json"))["clinics"] == [changed]
    made = as_json(dermqueue("key", "add", "--clinic", NAME, "--json"))
    rotated = as_json(dermqueue("key", "rotate", made["prefix"], "--json"))
    as_json(dermqueue("key", "revoke", made["prefix"], "--json"))
    states = {key["id"]: key["state"] for key in as_json(dermqueue("key", "list", "--json"))["keys"]}
    assert states == {made["id"]: "revoked", rotated["id"]: "valid"}
    with database.reading() as session:
        entries = [(row.action, row.role) for row in trail.list_entries(session, None, None, 9)]
    done = ("key.revoked", "key.rotated", "key.added", "clinic.changed", "clinic.added")
    assert entries == [(action, "operator") for action in done]
