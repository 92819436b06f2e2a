"""The SQL tables. A case's row is the source of truth; queue messages and objects follow it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared import service_tables  # noqa: F401 (adds its tables to the same metadata)
from shared.domain import REFERENCE_LENGTH, Role, State
from shared.table_base import Table, one_of, partial_index


class ClinicRow(Table):
    __tablename__ = "clinics"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime]
    waiting_limit: Mapped[int | None]
    """Maximum waiting cases; the setting's limit if NULL."""
    retention_days: Mapped[int | None]
    """Days that a case is kept after it ended; for ever if NULL."""


class ApiKeyRow(Table):
    """A bearer key: found by its prefix, verified by the SHA-256 of its 256 random bits."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(one_of("role", Role), name="role"),
        CheckConstraint("(role = 'clinic') = (clinic_id IS NOT NULL)", name="clinic_of_role"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    prefix: Mapped[str] = mapped_column(String(16), unique=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    clinic_id: Mapped[UUID | None] = mapped_column(ForeignKey("clinics.id"))
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """Accurate to a minute."""


class ModelRow(Table):
    """A bundle that some worker has loaded. Results point here, so that each can always name the model that made it."""

    __tablename__ = "models"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    manifest: Mapped[dict]
    card: Mapped[str]
    activated_at: Mapped[datetime]


_WAITING = text("state = 'queued'")
_RUNNING = text("state = 'running'")
# Only lists by state use both conditions: otherwise SQLite would choose such an index for the queue, and sort it all.
_LISTED = text("deleted_at IS NULL AND erased_at IS NULL")
_REFERRED = text("reference IS NOT NULL")
_KEPT = text("deleted_at IS NULL AND finished_at IS NOT NULL")
_RANKED = text("review_rank IS NOT NULL")
# The sweep uses this very text: SQLite does not recognise the condition when the states are bound parameters.
UNRANKED = text("review_rank IS NULL AND deleted_at IS NULL AND state IN ('succeeded', 'failed')")


class CaseRow(Table):
    __tablename__ = "cases"
    __table_args__ = (
        CheckConstraint(one_of("state", State), name="state"),
        CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name="lease_of_state"),
        UniqueConstraint("clinic_id", "idempotency_key"),
        Index("ix_cases_clinic_newest", "clinic_id", "submitted_at", "id"),
        Index("ix_cases_newest", "submitted_at", "id"),
        partial_index("ix_cases_clinic_state", "clinic_id", "state", "submitted_at", "id", where=_LISTED),
        partial_index("ix_cases_state", "state", "submitted_at", "id", where=_LISTED),
        partial_index("ix_cases_reference", "reference", "clinic_id", "submitted_at", "id", where=_REFERRED),
        partial_index("ix_cases_waiting", "urgency", "turn", "submitted_at", where=_WAITING),
        partial_index("ix_cases_waiting_clinic", "clinic_id", "urgency", "turn", where=_WAITING),
        partial_index("ix_cases_leases", "lease_expires_at", where=_RUNNING),
        Index("ix_cases_finished", "finished_at", "clinic_id", "state", "submitted_at"),
        partial_index("ix_cases_kept", "clinic_id", "finished_at", where=_KEPT),
        partial_index("ix_cases_worklist", "reviewed", "review_rank", "submitted_at", "id", where=_RANKED),
        partial_index(
            "ix_cases_worklist_clinic", "clinic_id", "reviewed", "review_rank", "submitted_at", "id", where=_RANKED
        ),
        partial_index(
            "ix_cases_worklist_decision", "decision", "reviewed", "review_rank", "submitted_at", "id", where=_RANKED
        ),
        partial_index("ix_cases_unranked", "finished_at", where=UNRANKED),
        partial_index("ix_cases_to_erase", "deleted_at", where=text("deleted_at IS NOT NULL AND erased_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    clinic_id: Mapped[UUID] = mapped_column(ForeignKey("clinics.id"))
    state: Mapped[str] = mapped_column(String(16))
    version: Mapped[int]
    """Grows with every change that a client can see; serves as the ETag."""

    priority: Mapped[str] = mapped_column(String(16))
    urgency: Mapped[int]
    """0 urgent, 1 routine: the first key of the queue's order."""
    turn: Mapped[int]
    """The second key: each clinic's waiting cases take successive turns, so a flood waits behind itself."""

    reference: Mapped[str | None] = mapped_column(String(REFERENCE_LENGTH))
    age: Mapped[int | None]
    sex: Mapped[str | None] = mapped_column(String(16))
    site: Mapped[str | None] = mapped_column(String(100))

    photograph_key: Mapped[str] = mapped_column(String(200))
    media_type: Mapped[str] = mapped_column(String(32))
    width: Mapped[int]
    height: Mapped[int]
    size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))

    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))

    submitted_at: Mapped[datetime]
    available_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]

    attempts: Mapped[int]
    alone: Mapped[bool]
    """To be analysed in a batch of its own, as after an attempt that was interrupted."""
    lease_token: Mapped[UUID | None]
    lease_expires_at: Mapped[datetime | None]

    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(String(500))

    traceparent: Mapped[str | None] = mapped_column(String(55))
    """The W3C trace context of the request that submitted it; its trace id is the request's id in the logs."""

    review_rank: Mapped[float | None]
    """Rank on the worklist, lowest first: see `rank_for_review`. NULL: there is nothing to review, or a version without
    reviews ended the case and a sweep will rank it."""
    reviewed: Mapped[bool] = mapped_column(server_default=false())
    review_base: Mapped[int] = mapped_column(server_default="0")
    """Reviews below this version belong to an earlier attempt. A requeue sets it to one above the last of them. The
    next review gets this number from code of migration 0008, and one more from later code."""
    decision: Mapped[str | None] = mapped_column(String(16))
    """A copy of the result's decision, for the worklist's filter. NULL: there is none."""


class AnalysisRow(Table):
    """The result of a case. The primary key is the case's, so there can be only one."""

    __tablename__ = "analyses"
    __table_args__ = (Index("ix_analyses_melanoma", "melanoma"),)

    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    melanoma: Mapped[float]
    seborrheic_keratosis: Mapped[float]
    nevus: Mapped[float]
    decision: Mapped[str] = mapped_column(String(16))
    operating_point: Mapped[dict]
    model_digest: Mapped[str] = mapped_column(ForeignKey("models.digest"))
    preprocessing: Mapped[str] = mapped_column(String(64))
    code_version: Mapped[str] = mapped_column(String(32))
    warnings: Mapped[list]
    activation_maps: Mapped[bytes] = mapped_column(deferred=True)
    map_height: Mapped[int] = mapped_column(deferred=True)
    map_width: Mapped[int] = mapped_column(deferred=True)
    overlay_key: Mapped[str] = mapped_column(String(200))
    plausible: Mapped[list | None] = mapped_column(JSON(none_as_null=True))
    """NULL: the bundle has no thresholds for them, or the version that analysed the case did not use them."""

    model: Mapped[ModelRow] = relationship(lazy="raise")


class SubmissionRow(Table):
    """Cases that a clinic sent together. `finished_at` is NULL until all of its photographs were processed."""

    __tablename__ = "submissions"
    __table_args__ = (UniqueConstraint("clinic_id", "idempotency_key"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    clinic_id: Mapped[UUID] = mapped_column(ForeignKey("clinics.id"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class SubmissionItemRow(Table):
    """One photograph of a submission: the case that it became, or why it was refused."""

    __tablename__ = "submission_items"
    __table_args__ = (Index("ix_submission_items_case_id", "case_id"),)

    submission_id: Mapped[UUID] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(REFERENCE_LENGTH))
    case_id: Mapped[UUID | None] = mapped_column(ForeignKey("cases.id"))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(String(500))


class UploadRow(Table):
    """A key in the object store to which a clinic may upload one photograph directly, until `expires_at`."""

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_expires_at", "expires_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    clinic_id: Mapped[UUID] = mapped_column(ForeignKey("clinics.id"))
    object_key: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str | None] = mapped_column(String(64))
    """The digest that the clinic announced."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    case_id: Mapped[UUID | None] = mapped_column(ForeignKey("cases.id"))


class AuditRow(Table):
    """Who did what to which case, and when. Append-only; no names, no free text.

    `position` and `hash` make the rows a chain. They are NULL only in rows added by a version without the chain, until
    the next row is added.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_case_id", "case_id"),
        Index("ix_audit_events_position", "position", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    action: Mapped[str] = mapped_column(String(32))
    key_id: Mapped[UUID | None]
    role: Mapped[str | None] = mapped_column(String(16))
    clinic_id: Mapped[UUID | None]
    case_id: Mapped[UUID | None]
    position: Mapped[int | None]
    hash: Mapped[str | None] = mapped_column(String(64))
