"""One transaction per use case, on SQLite as on PostgreSQL, and server errors in words of our own."""

import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

import shared.database
from deploy.embedded.program import find_free_port
from shared.database import open_database, read_clock
from shared.errors import Unavailable
from shared.store import access
from shared.tables import ClinicRow
from tests.factories import add_clinic
from tests.servers.postgres import running_postgres
from tests.waiting import wait_until

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def count_clinics(session) -> int:
    return session.scalar(select(func.count()).select_from(ClinicRow))


def is_connected(database, pid: int) -> bool:
    with database.reading() as session:
        return bool(session.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}))


def clinics_of(database) -> int:
    with database.reading() as session:
        return count_clinics(session)


def test_what_was_written_is_there_for_the_next_transaction(database):
    add_clinic(database)
    assert clinics_of(database) == 1


def test_any_exception_rolls_back_the_whole_transaction_and_passes_through(database):
    def write_and_fail() -> None:
        with database.writing() as session:
            access.add_clinic(session, "Lost", datetime.now(UTC))
            raise ValueError("of our own")

    with pytest.raises(ValueError, match="of our own"):
        write_and_fail()
    assert clinics_of(database) == 0


def test_the_clock_is_in_utc_whatever_the_servers_zone(database):
    with database.reading() as session:
        assert read_clock(session).tzinfo is UTC


@on_postgresql
def test_the_tests_server_is_in_a_zone_with_daylight_saving(database):
    with database.reading() as session:
        assert session.scalar(text("SHOW timezone")) == "Europe/Berlin"


def test_an_error_that_a_retry_does_not_cure_is_not_called_unavailable(database):
    with pytest.raises(IntegrityError), database.writing() as session:
        session.execute(text("INSERT INTO clinics (id) VALUES (NULL)"))


@on_sqlite
def test_a_writer_that_waits_too_long_for_another_is_told_that_the_database_is_unavailable(database, monkeypatch):
    monkeypatch.setattr("shared.database._BUSY_TIMEOUT_MS", 10)
    impatient = open_database(database.engine.url.render_as_string(hide_password=False))
    with database.writing() as writer:
        writer.connection()
        with pytest.raises(Unavailable):
            add_clinic(impatient)
    impatient.engine.dispose()


@on_sqlite
def test_a_writer_that_waits_too_long_for_another_thread_of_its_process_is_told_so_too(database, monkeypatch):
    monkeypatch.setattr("shared.database._BUSY_TIMEOUT_MS", 10)
    with database.writing(), pytest.raises(Unavailable):
        add_clinic(database)
    add_clinic(database)


def test_an_error_that_ends_up_in_a_log_names_its_statement_and_no_value(database):
    name = "Clinic of Mrs Doe"
    add_clinic(database, name)
    for others in ({"id": uuid4()}, {"id": uuid4(), "created_at": datetime.now(UTC)}):  # a column missing; a double
        with pytest.raises(IntegrityError) as caught, database.writing() as session:
            session.execute(insert(ClinicRow).values(name=name, **others))
        told = "".join(traceback.format_exception(caught.value))
        assert "INSERT INTO clinics" in told
        assert name not in told


@on_sqlite
def test_a_reader_on_sqlite_does_not_hold_up_a_writer_and_keeps_its_own_view(database):
    with database.reading() as session:
        before = count_clinics(session)
        add_clinic(database)
        assert count_clinics(session) == before
    assert clinics_of(database) == before + 1


@on_sqlite
def test_writers_on_sqlite_wait_for_each_other_and_none_is_refused(database):
    together = threading.Barrier(4)

    def write_fifty(writer: int) -> None:
        together.wait()
        for number in range(50):
            with database.writing() as session:
                # Reads first, as a claim does: a deferred transaction would fail when it turns into a writer.
                session.scalar(select(ClinicRow.id).limit(1))
                access.add_clinic(session, f"Clinic {writer}/{number}", datetime.now(UTC))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write_fifty, range(4)))
    assert clinics_of(database) == 200


@on_sqlite
def test_a_commit_on_sqlite_has_reached_the_disk_and_foreign_keys_hold(database):
    with database.reading() as session:
        names = ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint")
        found = {name: session.scalar(text(f"PRAGMA {name}")) for name in names}
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "wal_autocheckpoint": 4000}


@on_postgresql
def test_a_reading_transaction_on_postgresql_cannot_write_and_leaves_no_trace_on_its_connection(database):
    with pytest.raises(DBAPIError, match="read-only transaction"), database.reading() as session:
        access.add_clinic(session, "Forbidden", datetime.now(UTC))
    add_clinic(database)
    assert clinics_of(database) == 1


def test_looking_twice_shows_what_was_committed_in_between_and_leaves_no_trace_on_the_connection(database):
    with database.autocommitting() as connection:
        before = count_clinics(connection)
        add_clinic(database)
        assert count_clinics(connection) == before + 1
    with database.writing() as session:
        access.add_clinic(session, "Lost", datetime.now(UTC))
        session.rollback()
    assert clinics_of(database) == before + 1


@on_postgresql
def test_a_broken_connection_is_a_transient_error_and_the_next_transaction_gets_a_new_one(database):
    def lose_the_connection() -> None:
        with database.writing() as session:
            victim = session.scalar(select(func.pg_backend_pid()))
            with database.writing() as other:
                other.scalar(select(func.pg_terminate_backend(victim)))
            session.scalar(select(1))

    with pytest.raises(Unavailable) as caught:
        lose_the_connection()
    assert caught.value.code == "database_unavailable"
    assert clinics_of(database) == 0


@on_postgresql
def test_only_some_connections_stay_open_once_a_rush_is_over(database_url):
    database = open_database(database_url, kept=2)
    with ExitStack() as rush:
        for _ in range(5):
            rush.enter_context(database.reading()).scalar(select(1))
    assert database.engine.pool.checkedin() == 2
    database.engine.dispose()


@on_postgresql
def test_a_dead_connection_that_was_idle_in_the_pool_is_replaced_unnoticed(database, database_url, monkeypatch):
    with database.reading() as session:
        victim = session.scalar(select(func.pg_backend_pid()))
    other = open_database(database_url)
    with other.reading() as session:
        assert session.scalar(select(func.pg_terminate_backend(victim)))
    other.engine.dispose()
    monkeypatch.setattr(shared.database, "_PAUSE_S", 0)
    with database.reading() as session:
        assert session.scalar(select(func.pg_backend_pid())) != victim


@on_postgresql
def test_only_a_connection_that_was_idle_in_the_pool_for_a_while_is_pinged(database, monkeypatch):
    tried = []
    monkeypatch.setattr(database.engine.dialect, "do_ping", tried.append)
    for pause_s, times in ((60, 0), (0, 2)):
        monkeypatch.setattr(shared.database, "_PAUSE_S", pause_s)
        clinics_of(database)
        clinics_of(database)
        assert len(tried) == times


@on_postgresql
def test_an_idle_transaction_loses_its_connection_which_is_a_transient_error(database):
    def stand_still() -> None:
        with database.writing() as session:
            assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "10s"
            session.execute(text("SET idle_in_transaction_session_timeout = 100"))  # ms
            own = session.scalar(select(func.pg_backend_pid()))
            wait_until(lambda: not is_connected(database, own))
            session.scalar(select(1))

    with pytest.raises(Unavailable) as caught:
        stand_still()
    assert caught.value.code == "database_unavailable"
    assert clinics_of(database) == 0


def make_table(database) -> None:
    with database.writing() as session:
        session.execute(text("CREATE TABLE written (number integer)"))


def test_a_standby_is_a_transient_error_and_once_it_is_the_primary_everything_is_written():
    with running_postgres(standby=True) as url:
        database = open_database(url)
        for _ in range(2):  # over a new connection, and over one that has read
            with pytest.raises(Unavailable) as caught:
                make_table(database)
            assert caught.value.code == "database_unavailable"
            with database.reading() as session:
                session.scalar(select(1))
                before = session.scalar(select(func.pg_backend_pid()))
        with database.reading() as session:
            assert session.scalar(select(func.pg_backend_pid())) == before
            session.scalar(select(func.pg_promote()))
        make_table(database)
        database.engine.dispose()


@on_postgresql
def test_a_server_that_was_made_read_only_is_left_for_another_connection(database):
    with database.engine.connect() as connection:
        connection.execute(text("SET default_transaction_read_only = on"))
        connection.commit()
    with pytest.raises(Unavailable):
        make_table(database)
    make_table(database)


@pytest.mark.parametrize("transaction", ["reading", "autocommitting", "writing"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_unreachable_database_is_a_transient_error_whose_sentence_gives_nothing_away(kind, transaction, tmp_path):
    url = {
        "sqlite": f"sqlite:///{tmp_path / 'no_such_folder' / 'cases.sqlite3'}",
        "postgresql": f"postgresql+psycopg://dermqueue@127.0.0.1:{find_free_port()}/cases",
    }[kind]
    with pytest.raises(Unavailable) as caught, getattr(open_database(url), transaction)() as session:
        session.scalar(select(1))
    assert caught.value.code == "database_unavailable"
    assert caught.value.detail == "The database cannot be reached right now. Please try again."


def test_opening_a_database_connects_to_nothing(tmp_path):
    path = tmp_path / "cases.sqlite3"
    open_database(f"sqlite:///{path}")
    assert not path.exists()


def test_the_clock_is_the_current_time_in_utc_and_advances_within_a_transaction(database):
    with database.writing() as session, database.autocommitting() as connection:
        first = read_clock(session)
        time.sleep(0.002)
        second = read_clock(session)
        time.sleep(0.002)
        third = read_clock(connection)
    assert first.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - first) < timedelta(seconds=30)
    assert first < second < third


def test_a_timestamp_comes_back_from_its_column_as_it_went_in(database):
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    with database.writing() as session:
        clinic_id = access.add_clinic(session, "Clinic", moment.astimezone())
    with database.reading() as session:
        found = session.get(ClinicRow, clinic_id).created_at
    assert (found, found.utcoffset()) == (moment, timedelta(0))
