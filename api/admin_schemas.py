"""Schemas of the admins' routes: the queue in figures, workers, clinics, keys, failed cases, audit."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from api.parameters import Parameters
from api.schemas import PLAIN, ErrorOut, plain_text, whole
from shared.domain import Case, Role, State
from shared.store.access import MOST_CASES, MOST_DAYS, Clinic, Key, MadeKey
from shared.store.overview import ClinicLoad, Hour
from shared.store.trail import AuditEntry
from shared.store.workers import KnownWorker

Name = Annotated[
    str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": PLAIN}), AfterValidator(plain_text)
]
Cases = Annotated[int, Field(ge=1, le=MOST_CASES), BeforeValidator(whole)]
Days = Annotated[int, Field(ge=1, le=MOST_DAYS), BeforeValidator(whole)]


class QueueQuery(Parameters):
    model_config = ConfigDict(extra="forbid")

    hours: int = Field(24, ge=1, le=168, description="how far back to look")
    minutes: int = Field(30, ge=1, le=10_080, description="the time in which to clear the backlog")


class ClinicLoadOut(BaseModel):
    id: UUID
    name: str
    waiting: int
    running: int
    oldest: datetime | None = Field(description="when the longest-waiting case was submitted")

    @classmethod
    def of(cls, load: ClinicLoad) -> "ClinicLoadOut":
        """Return a clinic's load as JSON shows it."""
        return cls(id=load.clinic_id, name=load.name, waiting=load.waiting, running=load.running, oldest=load.oldest)


class HourOut(BaseModel):
    """What finished within one hour. `median_s` and `p95_s` (95th percentile) count from submission to the end."""

    start: datetime
    succeeded: int
    rejected: int
    failed: int
    median_s: float
    p95_s: float

    @classmethod
    def of(cls, hour: Hour) -> "HourOut":
        """Return an hour as JSON shows it."""
        return cls.model_validate(hour, from_attributes=True)


class WorkerOut(BaseModel):
    id: UUID
    name: str
    device: str
    batch_size: int
    images_per_minute: float | None = Field(description="while it has work; null until measured")
    model: str = Field(description="name and version")
    started_at: datetime
    seen_at: datetime
    alive: bool

    @classmethod
    def of(cls, known: KnownWorker) -> "WorkerOut":
        """Return a worker as JSON shows it."""
        worker = known.worker
        return cls(
            id=worker.id,
            name=worker.name,
            device=worker.device,
            batch_size=worker.batch_size,
            images_per_minute=worker.images_per_minute,
            model=f"{known.model_name} {known.model_version}",
            started_at=known.started_at,
            seen_at=known.seen_at,
            alive=known.alive,
        )


class WorkersOut(BaseModel):
    workers: list[WorkerOut]


class QueueOut(BaseModel):
    waiting: int
    running: int
    oldest: datetime | None = Field(description="when the longest-waiting case was submitted")
    arriving_per_minute: float = Field(description="over the last hour")
    clear_in_minutes: int = Field(description="the `minutes` that were asked for")
    workers_needed: int | None = Field(
        description="to clear the backlog in that time while cases keep arriving, at the workers' mean measured rate;"
        " null until one has been measured"
    )
    clinics: list[ClinicLoadOut] = Field(description="with waiting or running cases, the busiest first")
    hours: list[HourOut] = Field(description="in which cases finished, oldest first")
    workers: list[WorkerOut] = Field(description="seen in the last 24 hours")


class ClinicPath(BaseModel):
    clinic_id: str = Field(description="the clinic's id")


class ClinicIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name
    waiting_limit: Cases | None = Field(None, description="most cases that may wait at once; null: the default")
    retention_days: Days | None = Field(None, description="days to keep a case after it finishes; null: for ever")


class ClinicChangeIn(BaseModel):
    """Fields that are left out stay unchanged."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"minProperties": 1})

    waiting_limit: Cases | None = Field(None, description="most cases that may wait at once; null: the default")
    retention_days: Days | None = Field(None, description="days to keep a case after it finishes; null: for ever")

    @model_validator(mode="after")
    def _changes_something(self) -> "ClinicChangeIn":
        if not self.model_fields_set:
            raise ValueError("name at least one limit")
        return self


class ClinicOut(BaseModel):
    id: UUID
    name: str
    created_at: datetime
    waiting_limit: int | None
    retention_days: int | None

    @classmethod
    def of(cls, clinic: Clinic) -> "ClinicOut":
        """Return a clinic as JSON shows it."""
        return cls.model_validate(clinic, from_attributes=True)


class ClinicListOut(BaseModel):
    clinics: list[ClinicOut]


class KeyPath(BaseModel):
    key_id: str = Field(description="the key's id, as in the audit trail")


_OF_A_CLINIC = {"properties": {"role": {"const": "clinic"}, "clinic_id": {"type": "string"}}, "required": ["clinic_id"]}
_OF_NO_CLINIC = {"properties": {"role": {"not": {"const": "clinic"}}, "clinic_id": {"type": "null"}}}


class KeyIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"oneOf": [_OF_A_CLINIC, _OF_NO_CLINIC]})

    role: Role
    clinic_id: UUID | None = Field(None, description="required for the role clinic, and allowed only for it")
    days: Days | None = Field(None, description="days until it expires; null: never")

    @model_validator(mode="after")
    def _clinic_of_role(self) -> "KeyIn":
        if (self.role is Role.CLINIC) != (self.clinic_id is not None):
            raise ValueError("clinic_id is required for the role clinic, and allowed only for it")
        return self


class KeyRotationIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    overlap_days: Annotated[int, Field(ge=0, le=MOST_DAYS), BeforeValidator(whole)] = Field(
        7, description="days for which the old key stays valid"
    )
    days: Days | None = Field(None, description="days until the new key expires; null: never")


class KeyMadeOut(BaseModel):
    id: UUID
    key: str = Field(description="shown in this answer only")
    prefix: str

    @classmethod
    def of(cls, made: MadeKey) -> "KeyMadeOut":
        """Return a new key as JSON shows it, this once."""
        return cls.model_validate(made, from_attributes=True)


class KeyOut(BaseModel):
    """A key without its secret."""

    id: UUID
    prefix: str
    role: Role
    clinic_id: UUID | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="to within a minute")
    state: str = Field(description="valid, expired or revoked")

    @classmethod
    def of(cls, key: Key) -> "KeyOut":
        """Return a key as JSON shows it."""
        return cls.model_validate(key, from_attributes=True)


class KeyListOut(BaseModel):
    keys: list[KeyOut]


class FailedQuery(Parameters):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=200, description="cases on a page")
    cursor: str | None = Field(None, max_length=200, description="from the previous page's `next` link")


class FailedCaseOut(BaseModel):
    """A case as an admin sees it: without photograph or result."""

    id: UUID
    clinic_id: UUID
    state: State
    submitted_at: datetime
    finished_at: datetime | None
    error: ErrorOut | None

    @classmethod
    def of(cls, case: Case) -> "FailedCaseOut":
        """Return a case as an admin may see it."""
        return cls(
            id=case.id,
            clinic_id=case.clinic_id,
            state=case.state,
            submitted_at=case.submitted_at,
            finished_at=case.finished_at,
            error=ErrorOut(code=case.problem.code, detail=case.problem.detail) if case.problem else None,
        )


class FailedListOut(BaseModel):
    cases: list[FailedCaseOut]


class AuditQuery(Parameters):
    model_config = ConfigDict(extra="forbid")

    case_id: UUID | None = Field(None, description="only entries about this case")
    before: int | None = Field(None, ge=1, le=2**31 - 1, description="only entries before this `position`")
    limit: int = Field(100, ge=1, le=1000, description="entries on a page")


class AuditOut(BaseModel):
    """Who did what. `key_id` is null where no key was used: `role` is then worker, housekeeping or operator."""

    position: int = Field(description="counts from 1, without gaps")
    at: datetime
    action: str
    key_id: UUID | None
    role: str | None
    clinic_id: UUID | None
    case_id: UUID | None
    hash: str = Field(description="SHA-256 over this entry and the hash before it")


class AuditPageOut(BaseModel):
    entries: list[AuditOut]

    @classmethod
    def of(cls, entries: Iterable[AuditEntry]) -> "AuditPageOut":
        """Return entries as JSON shows them."""
        return cls(entries=[AuditOut.model_validate(entry, from_attributes=True) for entry in entries])
