"""Digests and keys of submissions whose cases were all deleted

They identify copies of the photographs. From this version on they go with the last case; older ones are removed here.
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
    """Nothing: what was removed is gone, and the previous version can do without it."""
