"""Indexes for the lists of cases of one state or one reference, which scanned all cases

Only adds; the previous version has more indexes to choose from.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_LISTED = sa.text("deleted_at IS NULL AND erased_at IS NULL")
_REFERRED = sa.text("reference IS NOT NULL")


def upgrade() -> None:
    for name, columns, where in (
        ("ix_cases_clinic_state", ["clinic_id", "state"], _LISTED),
        ("ix_cases_state", ["state"], _LISTED),
        ("ix_cases_reference", ["reference", "clinic_id"], _REFERRED),
    ):
        order = [*columns, "submitted_at", "id"]
        op.create_index(name, "cases", order, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for index in ("reference", "state", "clinic_state"):
        op.drop_index(f"ix_cases_{index}", "cases")
