"""Keys open what they should and nothing else, and SQL never holds what would open anything."""

import hashlib
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from shared.database import Database
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


def revoke(database: Database, key_or_prefix: str) -> None:
    with database.writing() as session:
        access.revoke_key(session, key_or_prefix, NOW)


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
        lambda key: "ключ",
        lambda key: "",
    ],
)
def test_a_key_that_is_not_whole_opens_nothing(database, spoil):
    assert refusal(database, spoil(add_key(database, Role.ADMIN))) == "key_unknown"


def test_a_key_with_anothers_secret_opens_nothing(database):
    first, second = add_key(database, Role.ADMIN), add_key(database, Role.ADMIN)
    assert refusal(database, "_".join([*first.split("_", 2)[:2], second.split("_", 2)[2]])) == "key_unknown"


@pytest.mark.parametrize("name_it", [lambda key: key, lambda key: key.split("_")[1]], ids=["whole key", "prefix"])
def test_a_revoked_key_is_refused_at_once_and_others_are_not(database, name_it):
    key, other = add_key(database, Role.ADMIN), add_key(database, Role.ADMIN)
    revoke(database, name_it(key))
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


@pytest.mark.parametrize(("role", "of_a_clinic"), [(Role.CLINIC, False), (Role.REVIEWER, True), (Role.ADMIN, True)])
def test_sql_refuses_a_clinics_key_without_a_clinic_and_any_other_with_one(database, role, of_a_clinic):
    clinic_id = add_clinic(database) if of_a_clinic else None
    with pytest.raises(IntegrityError, match="clinic_of_role"):
        add_key(database, role, clinic_id)


def test_sql_refuses_a_key_of_a_clinic_that_is_not_there(database):
    with pytest.raises(IntegrityError):
        add_key(database, Role.CLINIC, uuid4())


def test_a_clinics_name_is_given_once(database):
    add_clinic(database, "North")
    with pytest.raises(Conflict) as caught:
        add_clinic(database, "North")
    assert caught.value.code == "clinic_exists"
    assert "'North'" in caught.value.detail


def test_a_clinic_is_found_by_its_name_and_by_its_id(database):
    south, north = add_clinic(database, "South"), add_clinic(database, "North")
    with database.reading() as session:
        assert [(row.id, row.name) for row in access.list_clinics(session)] == [(north, "North"), (south, "South")]
        assert access.find_clinic(session, "South") == access.find_clinic(session, str(south)) == south
        with pytest.raises(NotFound, match="clinic_not_found"):
            access.find_clinic(session, "West")
