"""An index for the purge, which scanned every tombstone for each of its batches

Only adds; the previous version has more indexes to choose from.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_KEPT = sa.text("deleted_at IS NULL AND finished_at IS NOT NULL")


def upgrade() -> None:
    op.create_index("ix_cases_kept", "cases", ["clinic_id", "finished_at"], sqlite_where=_KEPT, postgresql_where=_KEPT)


def downgrade() -> None:
    op.drop_index("ix_cases_kept", "cases")
