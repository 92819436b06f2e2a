"""Keys grant what they should and nothing else, and SQL never holds a usable key."""

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from shared.database import Database, read_clock
from shared.domain import Caller, Role
from shared.errors import Conflict, NotAuthenticated, NotFound
from shared.store import access
from tests.factories import add_clinic, add_key

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def authenticate(database: Database, key: str) -> Caller:
    with database.reading() as session:
        return access.authenticate(session, key)


def refusal(database: Database, key: str) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        authenticate(database, key)
    return caught.value.code


def add_expiring_key(database: Database, days: float) -> str:
    with database.writing() as session:
        now = read_clock(session)
        return access.add_key(session, Role.ADMIN, None, now, now + timedelta(days=days)).key


def rotate(database: Database, key: UUID | str, overlap_days: float, days_ago: float = 0) -> str:
    with database.writing() as session:
        then = read_clock(session) - timedelta(days=days_ago)
        return access.rotate_key(session, key, then, timedelta(days=overlap_days)).key


def listed(database: Database, key: str) -> access.Key:
    with database.reading() as session:
        (found,) = [one for one in access.list_keys(session, read_clock(session)) if one.prefix == prefix_of(key)]
    return found


def prefix_of(key: str) -> str:
    return key.split("_")[1]


def revoke(database: Database, key: UUID | str) -> None:
    with database.writing() as session:
        access.revoke_key(session, key, read_clock(session))


@pytest.mark.parametrize("role", [Role.REVIEWER, Role.ADMIN])
def test_a_key_says_which_role_it_was_made_for(database, role):
    caller = authenticate(database, add_key(database, role))
    assert (caller.role, caller.clinic_id) == (role, None)


def test_a_clinics_key_says_which_clinic_it_is(database):
    first, second = add_clinic(database), add_clinic(database)
    keys = {clinic_id: add_key(database, Role.CLINIC, clinic_id) for clinic_id in (first, second)}
    for clinic_id, key in keys.items():
        caller = authenticate(database, key)
        assert (caller.role, caller.clinic_id) == (Role.CLINIC, clinic_id)


def test_sql_holds_a_keys_prefix_and_hash_and_in_no_column_the_secret(database):
    _, prefix, secret = add_key(database, Role.ADMIN).split("_", 2)
    with database.reading() as session:
        columns = [str(value) for value in session.execute(text("SELECT * FROM api_keys")).one()]
    assert prefix in columns
    assert hashlib.sha256(secret.encode()).hexdigest() in columns
    assert not [value for value in columns if secret in value]


def test_two_keys_have_nothing_in_common(database):
    first, second = (add_key(database, Role.ADMIN).split("_", 2) for _ in range(2))
    assert first[0] == second[0] == "dq"
    assert not set(first[1:]) & set(second[1:])
    assert len(first[2]) >= 43  # 256 bits in base 64


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1],
        lambda key: key + "x",
        lambda key: key.upper(),
        lambda key: key.removeprefix("dq_"),
        lambda key: key.replace("dq_", "sk_"),
        lambda key: "_".join(key.split("_", 2)[:2]) + "_",
        lambda key: "dq_" + "0" * 12 + "_" + key.split("_", 2)[2],
        lambda key: "dq__",
        lambda key: "dq_\0_",
        lambda key: "ключ",
        lambda key: "",
    ],
)
def test_an_incomplete_key_is_refused(database, spoil):
    assert refusal(database, spoil(add_key(database, Role.ADMIN))) == "key_unknown"


def test_each_refusal_of_a_wrong_key_is_a_new_error_that_holds_no_frames_of_another(database):
    refusals = []
    for _ in range(2):
        with pytest.raises(NotAuthenticated) as caught:
            authenticate(database, "dq_wrong_key")
        refusals.append(caught.value)
    assert refusals[0] is not refusals[1]


def test_a_key_with_another_keys_secret_is_refused(database):
    first, second = add_key(database, Role.ADMIN), add_key(database, Role.ADMIN)
    assert refusal(database, "_".join([*first.split("_", 2)[:2], second.split("_", 2)[2]])) == "key_unknown"


@pytest.mark.parametrize(
    "name_it",
    [lambda _, key: key, lambda _, key: prefix_of(key), lambda database, key: listed(database, key).id],
    ids=["whole key", "prefix", "id"],
)
def test_a_revoked_key_is_refused_at_once_and_others_are_not(database, name_it):
    key, other = add_key(database, Role.ADMIN), add_key(database, Role.ADMIN)
    revoke(database, name_it(database, key))
    assert refusal(database, key) == "key_revoked"
    assert authenticate(database, other).role is Role.ADMIN


def test_whoever_has_only_a_revoked_keys_prefix_does_not_learn_that_it_existed(database):
    key = add_key(database, Role.ADMIN)
    revoke(database, key)
    assert refusal(database, f"dq_{key.split('_')[1]}_wrong") == "key_unknown"


def test_only_a_valid_key_can_be_revoked(database):
    key = add_key(database, Role.ADMIN)
    revoke(database, key)
    for gone in (key, "0" * 12):
        with pytest.raises(NotFound) as caught:
            revoke(database, gone)
        assert caught.value.code == "key_not_found"
        assert key.split("_", 2)[2] not in caught.value.detail


def test_a_key_is_valid_until_it_expires_and_only_its_holder_learns_that_it_expired(database):
    lasting, expired = add_expiring_key(database, 0.01), add_expiring_key(database, -0.01)
    assert authenticate(database, lasting).role is Role.ADMIN
    assert refusal(database, expired) == "key_expired"
    assert refusal(database, f"dq_{prefix_of(expired)}_wrong") == "key_unknown"


def test_during_the_overlap_of_a_rotation_both_keys_are_valid_and_afterwards_only_the_new_one(database):
    clinic_id = add_clinic(database)
    old = add_key(database, Role.CLINIC, clinic_id)
    new = rotate(database, old, overlap_days=7)
    for key in (old, new):
        caller = authenticate(database, key)
        assert (caller.role, caller.clinic_id) == (Role.CLINIC, clinic_id)
    newest = rotate(database, new, overlap_days=7, days_ago=8)
    assert refusal(database, new) == "key_expired"
    assert authenticate(database, newest).clinic_id == clinic_id


def test_without_an_overlap_the_old_key_ends_at_once(database):
    old = add_key(database, Role.REVIEWER)
    new = rotate(database, prefix_of(old), overlap_days=0)
    assert refusal(database, old) == "key_expired"
    assert authenticate(database, new).role is Role.REVIEWER


def test_a_rotation_never_prolongs_a_key(database):
    key = add_expiring_key(database, 1)
    expires_at = listed(database, key).expires_at
    rotate(database, key, overlap_days=7)
    assert listed(database, key).expires_at == expires_at
    rotate(database, key, overlap_days=0.5)
    assert listed(database, key).expires_at < expires_at


@pytest.mark.parametrize("ended", ["revoked", "expired", "unknown"])
def test_a_key_that_is_no_longer_valid_is_neither_rotated_nor_revived(database, ended):
    key = add_expiring_key(database, -1 if ended == "expired" else 1)
    if ended == "revoked":
        revoke(database, key)
    names = ("0" * 12, uuid4()) if ended == "unknown" else (key, listed(database, key).id)
    for name, told in zip(names, ("the prefix", "this id"), strict=True):
        for change in (lambda name: rotate(database, name, 7), lambda name: revoke(database, name)):
            with pytest.raises(NotFound, match=f"key_not_found: There is no valid key with {told}"):
                change(name)
    if ended != "unknown":
        assert refusal(database, key) == f"key_{ended}"
    with database.reading() as session:
        assert len(access.list_keys(session, NOW)) == 1


def test_the_last_use_of_a_key_is_recorded_in_its_own_row(database):
    used, other = add_key(database, Role.ADMIN), add_key(database, Role.ADMIN)
    for moment in (NOW, NOW + timedelta(seconds=1)):
        with database.writing() as session:
            access.note_use(session, listed(database, used).id, moment)
        assert listed(database, used).last_used_at == moment
    assert listed(database, other).last_used_at is None


@pytest.mark.parametrize(("role", "of_a_clinic"), [(Role.CLINIC, False), (Role.REVIEWER, True), (Role.ADMIN, True)])
def test_sql_refuses_a_clinics_key_without_a_clinic_and_any_other_with_one(database, role, of_a_clinic):
    clinic_id = add_clinic(database) if of_a_clinic else None
    with pytest.raises(IntegrityError, match="clinic_of_role"):
        add_key(database, role, clinic_id)


def test_sql_refuses_a_key_of_a_clinic_that_does_not_exist(database):
    with pytest.raises(IntegrityError):
        add_key(database, Role.CLINIC, uuid4())


def test_two_clinics_cannot_have_the_same_name(database):
    add_clinic(database, "North")
    with pytest.raises(Conflict) as caught:
        add_clinic(database, "North")
    assert caught.value.code == "clinic_exists"
    assert "'North'" in caught.value.detail


def test_a_clinic_is_found_by_its_name_and_by_its_id(database):
    south, north = add_clinic(database, "South"), add_clinic(database, "North")
    with database.reading() as session:
        assert [(one.id, one.name) for one in access.list_clinics(session)] == [(north, "North"), (south, "South")]
        assert access.find_clinic(session, "South") == access.find_clinic(session, str(south)) == south
        with pytest.raises(NotFound, match="clinic_not_found"):
            access.find_clinic(session, "West")


def test_a_clinics_limits_are_its_own_and_can_be_removed_one_by_one(database):
    south, north = add_clinic(database, "South"), add_clinic(database, "North")

    def set_limits(**limits: int | None) -> list[tuple[int | None, int | None]]:
        with database.writing() as session:
            access.set_limits(session, north, **limits)
        with database.reading() as session:
            assert access.read_waiting_limit(session, south) is None
            clinics = access.list_clinics(session)
            assert access.read_waiting_limit(session, north) == clinics[0].waiting_limit
        return [(clinic.waiting_limit, clinic.retention_days) for clinic in clinics]

    assert set_limits(waiting_limit=5, retention_days=30) == [(5, 30), (None, None)]
    assert set_limits(waiting_limit=6) == [(6, 30), (None, None)]
    assert set_limits(waiting_limit=None) == [(None, 30), (None, None)]
    assert set_limits(retention_days=None) == [(None, None), (None, None)]
