"""Reviews of a failed attempt no longer stand once the case is analysed again

The previous version neither knows nor sets the column: a case that it requeues keeps its reviews.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("cases", sa.Column("review_base", sa.Integer(), server_default="0", nullable=False))
    op.execute("""
        UPDATE cases SET review_base = (SELECT max(version) + 1 FROM reviews WHERE case_id = cases.id)
        WHERE id IN (SELECT case_id FROM reviews) AND NOT EXISTS (
            SELECT 1 FROM reviews WHERE case_id = cases.id AND reviewed_at >= cases.finished_at
        )
    """)


def downgrade() -> None:
    op.drop_column("cases", "review_base")
