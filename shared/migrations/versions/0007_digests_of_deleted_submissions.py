"""Digests and keys of submissions whose cases were all deleted

They tell whether one has the same photographs, and go with the last case from this version on; those of before go here.
"""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("""
        UPDATE submissions SET request_sha256 = '', idempotency_key = NULL
        WHERE EXISTS (
            SELECT 1 FROM submission_items AS item
            WHERE item.submission_id = submissions.id AND item.case_id IS NOT NULL
        ) AND NOT EXISTS (
            SELECT 1 FROM submission_items AS item JOIN cases ON cases.id = item.case_id
            WHERE item.submission_id = submissions.id AND cases.deleted_at IS NULL
        )
    """)


def downgrade() -> None:
    """What is gone is gone; the version before can live without."""
