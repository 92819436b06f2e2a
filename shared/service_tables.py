"""The SQL tables around the cases: reviews, sign-ins, workers, webhooks."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.domain import Verdict
from shared.table_base import Table, one_of, partial_index


class ReviewRow(Table):
    """A reviewer's verdict on a case. A change adds the next version; nothing is overwritten."""

    __tablename__ = "reviews"
    __table_args__ = (CheckConstraint(one_of("verdict", Verdict), name="verdict"),)

    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    """Increasing; the highest is the current one, unless the case was analysed again since (`review_base`)."""
    verdict: Mapped[str] = mapped_column(String(16))
    label: Mapped[str | None] = mapped_column(String(64))
    note: Mapped[str | None] = mapped_column(String(2000))
    key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    reviewed_at: Mapped[datetime]


class OpeningRow(Table):
    """A reviewer has a case open; others are told, but never blocked."""

    __tablename__ = "openings"

    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    seen_at: Mapped[datetime]


class SessionRow(Table):
    """A sign-in with a key. `id` is the SHA-256 of the cookie's 256 random bits."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_expires_at", "expires_at"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    csrf_secret: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    used_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class WorkerRow(Table):
    """A worker process, as of its last heartbeat."""

    __tablename__ = "workers"
    __table_args__ = (Index("ix_workers_seen_at", "seen_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    device: Mapped[str] = mapped_column(String(100))
    batch_size: Mapped[int]
    model_digest: Mapped[str] = mapped_column(ForeignKey("models.digest"))
    images_per_minute: Mapped[float | None]
    """Its rate while it has work; NULL until measured."""
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    stopped_at: Mapped[datetime | None]


class WebhookRow(Table):
    """Where a clinic is notified of final states. The secret signs the messages, so it is stored in plain text."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_clinic_id", "clinic_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    clinic_id: Mapped[UUID] = mapped_column(ForeignKey("clinics.id"))
    url: Mapped[str] = mapped_column(String(2000))
    secret: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


_DUE = text("due_at IS NOT NULL")
_ERRORS = text("error IS NOT NULL")


class DeliveryRow(Table):
    """A message to a webhook, due at `due_at` until it is delivered or given up. `id` is its webhook-id."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        partial_index("ix_webhook_deliveries_due", "due_at", where=_DUE),
        Index("ix_webhook_deliveries_webhook", "webhook_id", "due_at", "delivered_at", "given_up_at"),
        partial_index("ix_webhook_deliveries_errors", "webhook_id", "created_at", where=_ERRORS),
        Index("ix_webhook_deliveries_created_at", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id"))
    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id"))
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    attempts: Mapped[int]
    due_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    given_up_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(String(100))
    """Why the last attempt failed: a status, or the kind of error."""
