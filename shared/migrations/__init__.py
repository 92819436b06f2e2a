"""Brings a database's tables to what this version of the code expects, and says where they differ."""

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select

from shared.database import Database
from shared.errors import ConfigurationInvalid
from shared.tables import Table

_UPGRADE_LOCK = 0x6465726D
"""An arbitrary number ("derm") that only upgrades of this database lock."""


def upgrade(database: Database) -> None:
    """Run every migration that this database has not seen; of processes that start together, one at a time does.

    Raises:
        Unavailable: the database cannot be reached.
    """
    with database.reading() as session:
        session.connection()
    with database.engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE has made the others wait already
            connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
        command.upgrade(_config(connection), "head")


def check_upgraded(database: Database) -> None:
    """Raise `ConfigurationInvalid` unless the database is at this code's newest migration."""
    with database.reading() as session:
        found = MigrationContext.configure(session.connection()).get_current_revision()
    newest = ScriptDirectory.from_config(_config(None)).get_current_head()
    if found != newest:
        raise ConfigurationInvalid(
            "database_not_upgraded",
            f"The database is at migration {found or 'none'}, this version needs {newest}. Run `dermqueue db upgrade`.",
        )


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
