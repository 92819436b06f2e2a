"""Opens the SQL database: SQLite or PostgreSQL, one transaction per use case."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from threading import Lock

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import Unavailable
from shared.table_base import UtcDateTime

_BUSY_TIMEOUT_MS = 15_000
_PAUSE_S = 1.0
_CONNECTIONS = 40  # of one process: more than it has threads that ask
_POSTGRESQL = {
    "connect_timeout": 5,  # s
    # Without these, we would wait for a server that the network cut off until TCP gives up: a quarter of an hour.
    "tcp_user_timeout": 10_000,  # ms
    "keepalives_idle": 5,  # s
    "keepalives_interval": 2,  # s
    # Without this one, a client that was cut off or frozen in a transaction would keep its locks for hours.
    "options": "-c idle_in_transaction_session_timeout=10s",
}

_OF_A_STANDBY = ("25006", "0A000")
"""PostgreSQL's codes on a read-only server: for a statement that writes, and for a BEGIN that announces writing."""


class Database:
    """Provides transactions. Transient errors become `Unavailable`; all others pass through.

    `writer` is the engine for callers that need the original errors. On SQLite, `engine` itself begins no transaction.
    """

    def __init__(self, engine: Engine):
        self.engine = engine
        if engine.dialect.name == "sqlite":
            self._turn, self._autocommitting = _Turn(), engine
            # A deferred transaction that turns into a writer fails at once when another writes; an immediate one waits.
            self.writer, reader = _beginning(engine, "IMMEDIATE"), _beginning(engine, "DEFERRED")
        else:
            self._turn, self._autocommitting = nullcontext, engine.execution_options(isolation_level="AUTOCOMMIT")
            self.writer, reader = engine, engine.execution_options(postgresql_readonly=True)
        self._writing = sessionmaker(self.writer, expire_on_commit=False)
        self._reading = sessionmaker(reader)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Run one transaction, committed at the end or rolled back by any exception."""
        with _translated(), self._turn(), self._writing.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Run one read-only transaction; on SQLite it does not take the write lock."""
        with _translated(), self._reading.begin() as session:
            yield session

    @contextmanager
    def autocommitting(self) -> Iterator[Connection]:
        """Run queries of columns alone in autocommit mode: no BEGIN, no COMMIT and no session."""
        with _translated(), self._autocommitting.connect() as connection:
            yield connection


class _Turn:
    """Serialises the writers of one process, each woken by the previous one.

    SQLite's own waiters poll with ever longer sleeps: between two commits nobody would write for a while.
    """

    def __init__(self):
        self._lock = Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=_BUSY_TIMEOUT_MS / 1000):
            raise _away()
        try:
            yield
        finally:
            self._lock.release()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if not _is_transient(error):
            raise
        raise _away() from error


def _away() -> Unavailable:
    return Unavailable("database_unavailable", "The database cannot be reached right now. Please try again.")


def _is_transient(error: DBAPIError | PoolTimeout) -> bool:
    # When PostgreSQL ends a connection that was idle in a transaction, psycopg raises an InternalError.
    return isinstance(error, OperationalError | InterfaceError | PoolTimeout) or error.connection_invalidated


def open_database(url: str, kept: int = 10) -> Database:
    """Make the engine for `url`; nothing connects until the first transaction.

    kept: connections to PostgreSQL that stay open once they were needed; at most `_CONNECTIONS` are open at a time.

    Errors name their statement but not its values: those come from clinics, and errors end up in logs.
    """
    if url.startswith("sqlite"):
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000})
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=kept,
            max_overflow=_CONNECTIONS - kept,
            connect_args=_POSTGRESQL,
        )
        event.listen(engine, "handle_error", _forget_values)
        event.listen(engine, "handle_error", _leave_standby)
        _try_connections_after_a_pause(engine)
    return Database(engine)


def _try_connections_after_a_pause(engine: Engine) -> None:
    """Ping the server over a connection that was idle in the pool for `_PAUSE_S`, and replace it if it is dead.

    Not each time, as `pool_pre_ping` would: a poll makes two queries, and would wait for four answers. A connection
    that died within the pause surfaces as a transient error.
    """

    def note(_connection, record: ConnectionPoolEntry) -> None:
        record.info["left_at_s"] = time.monotonic()

    def try_out(connection, record: ConnectionPoolEntry, _proxy) -> None:
        left_at_s = record.info.get("left_at_s")
        if left_at_s is None or time.monotonic() - left_at_s < _PAUSE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error

    event.listen(engine, "checkin", note)
    event.listen(engine, "checkout", try_out)


def _beginning(engine: Engine, mode: str) -> Engine:
    """Return an engine on the same connections whose transactions begin in this SQLite mode."""
    own = engine.execution_options()
    # Not on the engine itself: `autocommitting` would pay for its events.
    event.listen(own, "begin", lambda connection: connection.exec_driver_sql(f"BEGIN {mode}"))
    return own


def read_clock(session: Session | Connection) -> datetime:
    """Return the database's time, in UTC, so that machines whose clocks differ agree on every lease.

    PostgreSQL returns it in the server's time zone, and Python adds to wall time: in a zone with daylight saving, a
    lease of 60 s would end an hour early or late during one hour of the year.
    """
    dialect = session.dialect if isinstance(session, Connection) else session.get_bind().dialect
    if dialect.name == "sqlite":
        return datetime.now(UTC)
    return session.scalar(select(func.clock_timestamp(type_=UtcDateTime)))


def _prepare_sqlite(connection, _record) -> None:
    connection.isolation_level = None  # autocommit, except on the engines of `_beginning`
    # FULL: a commit has reached the disk before the clinic gets its 202; NORMAL may lose it in a power cut.
    # 4,000 pages (16 MiB) of log between checkpoints, not 1,000: in a large table each commit writes different pages,
    # and one commit in twenty waited until all of them were written back.
    for pragma in (
        *("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000"),
        *("foreign_keys=ON", f"busy_timeout={_BUSY_TIMEOUT_MS}"),
    ):
        connection.execute(f"PRAGMA {pragma}")


def _forget_values(context: ExceptionContext) -> None:
    """Cut off the detail that PostgreSQL adds to some errors: it quotes the key, or even the whole row."""
    if context.sqlalchemy_exception is not None:
        for error in (context.sqlalchemy_exception, context.original_exception):
            error.args = tuple(str(text).partition("\nDETAIL:")[0] for text in error.args)


def _leave_standby(context: ExceptionContext) -> None:
    """Drop every connection when a write meets a read-only server: after a failover, new ones reach the primary."""
    only_reads = context.connection and context.connection.get_execution_options().get("postgresql_readonly")
    if not only_reads and getattr(context.original_exception, "sqlstate", None) in _OF_A_STANDBY:
        context.is_disconnect = True
