"""The trace context of the request that submitted a case, so that one id connects the logs of API and workers

Only adds; cases of the previous version have none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("cases", sa.Column("traceparent", sa.String(length=55), nullable=True))


def downgrade() -> None:
    op.drop_column("cases", "traceparent")
