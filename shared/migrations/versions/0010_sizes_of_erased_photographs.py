"""Cases that were erased earlier keep neither size nor sides of their photograph; 0009's column is filled

Only empties sizes that the previous version reads of no erased case, and sets what it does not know.
"""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("""
        UPDATE cases SET review_base = (SELECT max(version) + 1 FROM reviews WHERE case_id = cases.id)
        WHERE id IN (SELECT case_id FROM reviews) AND NOT EXISTS (
            SELECT 1 FROM reviews WHERE case_id = cases.id AND reviewed_at >= cases.finished_at
        )
    """)
    op.execute("UPDATE cases SET width = 0, height = 0, size_bytes = 0 WHERE deleted_at IS NOT NULL")


def downgrade() -> None:
    """What is gone is gone."""
