"""Upgrades a database's tables to what this version of the code expects, and finds where they differ."""

import time
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError

from shared.database import Database
from shared.errors import ConfigurationInvalid, Unavailable
from shared.tables import Table

_UPGRADE_LOCK = 0x6465726D
"""An arbitrary number ("derm") that only upgrades of this database lock."""

_TRIES = 60
_LOCK_TIMEOUT = "500ms"
"""Per lock. Less than PostgreSQL waits before it resolves a deadlock, so that the upgrade gives way."""

_PAUSE_S = 0.5
_LOCK_NOT_AVAILABLE, _DEADLOCK = "55P03", "40P01"  # PostgreSQL's codes


def upgrade(database: Database) -> None:
    """Apply every pending migration, each in a transaction of its own; of processes that start together, one at a time.

    The system may keep running: no lock outlasts its migration, and one that does not get a lock on a table at once
    releases all others and starts over. What was applied before a failure stays, and the next call goes on from there.
    A database that a later version has upgraded stays as it is (`check_upgraded`).

    Raises:
        Unavailable: the database cannot be reached, or some table was never free.
    """
    with database.reading() as session:
        session.connection()
    for _ in range(_TRIES):
        try:
            while _apply_next(database):
                pass
            return
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in (_LOCK_NOT_AVAILABLE, _DEADLOCK):
                raise
        time.sleep(_PAUSE_S)
    raise Unavailable(
        "database_busy",
        f"A table was in use throughout. The database is at migration {read_migration(database)}. Please try again.",
    )


def _apply_next(database: Database) -> bool:
    """Apply the first pending migration, if any, and return whether there may be another one."""
    with database.writer.begin() as connection:
        if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE has made the others wait already
            connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        found = MigrationContext.configure(connection).get_current_revision()
        if _reaches(found, _newest()):
            return False
        command.upgrade(_config(connection), "+1")
    return True


def check_upgraded(database: Database) -> None:
    """Raise `ConfigurationInvalid` if the database lacks a migration of this code.

    Later ones are fine: a migration only adds what the previous version can do without, so that a process of that
    version can still start, or restart, while the new one is rolled out.
    """
    found, newest = read_migration(database), _newest()
    if not _reaches(found, newest):
        raise ConfigurationInvalid(
            "database_not_upgraded",
            f"The database is at migration {found or 'none'}, this version needs {newest}. Run `dermqueue db upgrade`.",
        )


def _newest() -> str:
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def _reaches(found: str | None, migration: str) -> bool:
    """Tell whether a database is at this migration or a later one: they are numbered."""
    return (found or "").isdigit() and int(found) >= int(migration)


def read_migration(database: Database) -> str | None:
    """Return the migration that a database's tables are at."""
    with database.reading() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def is_known(migration: str) -> bool:
    """Tell whether this version of the code knows this migration: it can only upgrade from one that it knows."""
    known = ScriptDirectory.from_config(_config(None)).walk_revisions()
    return any(script.revision == migration for script in known)


def find_drift(database: Database) -> list:
    """Return how the database's tables differ from `shared.tables`; empty when they agree."""
    with database.engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection), Table.metadata)


def _config(connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
