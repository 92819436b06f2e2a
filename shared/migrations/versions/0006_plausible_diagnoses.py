"""The diagnoses that a result could not rule out

Only adds; results of the previous version, and of bundles without thresholds for them, have none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("analyses", sa.Column("plausible", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("analyses", "plausible")
