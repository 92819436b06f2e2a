"""What the pages need: a worklist with reviews, sign-ins, workers that report, webhooks

Only adds, so that the previous version can keep serving while this one is rolled out. Cases that ended before, or that
the previous version ends meanwhile, are ranked for the worklist by the sweeps.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_RANKED = sa.text("review_rank IS NOT NULL")
_UNRANKED = sa.text("review_rank IS NULL AND deleted_at IS NULL AND state IN ('succeeded', 'failed')")
_DUE = sa.text("due_at IS NOT NULL")
_ERRORS = sa.text("error IS NOT NULL")
_ENDS = ["due_at", "delivered_at", "given_up_at"]
_ORDER = ["reviewed", "review_rank", "submitted_at", "id"]


def upgrade() -> None:
    op.add_column("cases", sa.Column("review_rank", sa.Double(), nullable=True))
    op.add_column("cases", sa.Column("reviewed", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("cases", sa.Column("decision", sa.String(length=16), nullable=True))
    op.create_index("ix_cases_finished", "cases", ["finished_at", "clinic_id", "state", "submitted_at"])
    for name, columns, where in (
        ("ix_cases_worklist", _ORDER, _RANKED),
        ("ix_cases_worklist_clinic", ["clinic_id", *_ORDER], _RANKED),
        ("ix_cases_worklist_decision", ["decision", *_ORDER], _RANKED),
        ("ix_cases_unranked", ["finished_at"], _UNRANKED),
    ):
        op.create_index(name, "cases", columns, sqlite_where=where, postgresql_where=where)
    _create_tables_of_people()
    _create_tables_of_machines()


def _create_tables_of_people() -> None:
    op.create_table(
        "reviews",
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=True),
        sa.Column("note", sa.String(length=2000), nullable=True),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("verdict IN ('agree', 'disagree')", name=op.f("ck_reviews_verdict")),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_reviews_case_id"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_reviews_key_id"),
        sa.PrimaryKeyConstraint("case_id", "version", name="pk_reviews"),
    )
    op.create_table(
        "openings",
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_openings_case_id"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_openings_key_id"),
        sa.PrimaryKeyConstraint("case_id", "key_id", name="pk_openings"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("csrf_secret", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_sessions_key_id"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])


def _create_tables_of_machines() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("images_per_minute", sa.Double(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["model_digest"], ["models.digest"], name="fk_workers_model_digest"),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    op.create_index("ix_workers_seen_at", "workers", ["seen_at"])
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("clinic_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("secret", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["clinic_id"], ["clinics.id"], name="fk_webhooks_clinic_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_index("ix_webhooks_clinic_id", "webhooks", ["clinic_id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("given_up_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.String(length=100), nullable=True),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name="fk_webhook_deliveries_webhook_id"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_webhook_deliveries_case_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    op.create_index(
        "ix_webhook_deliveries_due", "webhook_deliveries", ["due_at"], sqlite_where=_DUE, postgresql_where=_DUE
    )
    op.create_index("ix_webhook_deliveries_webhook", "webhook_deliveries", ["webhook_id", *_ENDS])
    op.create_index(
        "ix_webhook_deliveries_errors",
        "webhook_deliveries",
        ["webhook_id", "created_at"],
        sqlite_where=_ERRORS,
        postgresql_where=_ERRORS,
    )
    op.create_index("ix_webhook_deliveries_created_at", "webhook_deliveries", ["created_at"])


def downgrade() -> None:
    for table in ("webhook_deliveries", "webhooks", "workers", "sessions", "openings", "reviews"):
        op.drop_table(table)
    for index in ("unranked", "worklist_decision", "worklist_clinic", "worklist", "finished"):
        op.drop_index(f"ix_cases_{index}", "cases")
    op.drop_column("cases", "decision")
    op.drop_column("cases", "reviewed")
    op.drop_column("cases", "review_rank")
