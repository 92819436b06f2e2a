"""Keys that expire, clinics with limits, submissions, uploads, and an audit trail that is a chain

Only adds, so that the previous version can keep serving while this one is rolled out.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("clinics", sa.Column("waiting_limit", sa.Integer(), nullable=True))
    op.add_column("clinics", sa.Column("retention_days", sa.Integer(), nullable=True))
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("audit_events", sa.Column("position", sa.Integer(), nullable=True))
    op.add_column("audit_events", sa.Column("hash", sa.String(length=64), nullable=True))
    op.create_index("ix_audit_events_position", "audit_events", ["position"], unique=True)

    op.create_table(
        "submissions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("clinic_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["clinic_id"], ["clinics.id"], name="fk_submissions_clinic_id"),
        sa.PrimaryKeyConstraint("id", name="pk_submissions"),
        sa.UniqueConstraint("clinic_id", "idempotency_key", name="uq_submissions_clinic_id_idempotency_key"),
    )
    op.create_table(
        "submission_items",
        sa.Column("submission_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_detail", sa.String(length=500), nullable=True),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name="fk_submission_items_submission_id"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_submission_items_case_id"),
        sa.PrimaryKeyConstraint("submission_id", "position", name="pk_submission_items"),
    )
    op.create_index("ix_submission_items_case_id", "submission_items", ["case_id"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("clinic_id", sa.Uuid(), nullable=False),
        sa.Column("object_key", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["clinic_id"], ["clinics.id"], name="fk_uploads_clinic_id"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_uploads_case_id"),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"])


def downgrade() -> None:
    op.drop_table("uploads")
    op.drop_table("submission_items")
    op.drop_table("submissions")
    op.drop_index("ix_audit_events_position", "audit_events")
    for table, column in (
        ("audit_events", "hash"),
        ("audit_events", "position"),
        ("api_keys", "last_used_at"),
        ("api_keys", "expires_at"),
        ("clinics", "retention_days"),
        ("clinics", "waiting_limit"),
    ):
        op.drop_column(table, column)
