"""Reviews of a failed attempt no longer stand once the case is analysed again

The previous version neither knows nor sets the column: a case that it requeues keeps its reviews. 0010 fills it:
whoever adds a column locks out every reader until the end of the transaction.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("cases", sa.Column("review_base", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("cases", "review_base")
