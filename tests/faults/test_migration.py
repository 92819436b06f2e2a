"""A migration while the previous version keeps serving, and then restarts on the newer database."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

import shared.migrations
from shared.database import Database
from shared.migrations import read_migration, upgrade
from tests.faults.audit import until_first_end

VERSIONS = Path(shared.migrations.__file__).parent / "versions"
NEXT_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{down_revision}"


def upgrade():
    op.create_table(
        "visits",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("case_id", sa.Uuid(), sa.ForeignKey("cases.id"), nullable=False),
    )
    op.add_column("cases", sa.Column("phototype", sa.Integer(), nullable=True))
    op.create_index("ix_cases_phototype", "cases", ["phototype"])


def downgrade():
    op.drop_index("ix_cases_phototype", "cases")
    op.drop_column("cases", "phototype")
    op.drop_table("visits")
"""


@pytest.mark.briefly_on("postgresql")
def test_the_previous_version_serves_during_a_migration_and_restarts_after_it(rig, sizes, tmp_path):
    with ExitStack() as until_settled:
        with rig.submitting(sizes.cases) as load:
            rig.await_ends(load, 1)
            begun_at = datetime.now(UTC)
            revision = until_settled.enter_context(migrated(rig.database, tmp_path))
            rig.await_ends(load, sizes.cases // 4)
            with rig.away("api", "worker"):
                assert read_migration(rig.database) == revision
        recovery = until_first_end(begun_at)
        outcome = rig.settle(load, "migration under load, then API and worker killed", recovery=recovery)
    assert outcome.failed == 0
    assert outcome.recovery_s <= sizes.recovery_s


@contextmanager
def migrated(database: Database, folder: Path) -> Iterator[str]:
    """Run a migration that no code knows yet, and undo it at the end; yields its number."""
    newest = max(file.name[:4] for file in VERSIONS.glob("[0-9]*.py"))
    revision = f"{int(newest) + 1:04}"
    (folder / f"{revision}_next.py").write_text(NEXT_MIGRATION.format(revision=revision, down_revision=newest))

    def knowing_it(connection: Connection) -> Config:
        config = known(connection)
        config.set_main_option("version_locations", os.pathsep.join([str(VERSIONS), str(folder)]))
        return config

    with pytest.MonkeyPatch.context() as patch:
        known = shared.migrations._config
        patch.setattr(shared.migrations, "_config", knowing_it)
        upgrade(database)
        try:
            yield revision
        finally:
            with database.writer.begin() as connection:
                command.downgrade(knowing_it(connection), newest)
