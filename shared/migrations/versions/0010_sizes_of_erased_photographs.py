"""Cases that were erased earlier keep neither size nor sides of their photograph

Only empties; the previous version reads them of no erased case.
"""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("UPDATE cases SET width = 0, height = 0, size_bytes = 0 WHERE deleted_at IS NOT NULL")


def downgrade() -> None:
    """What is gone is gone."""
