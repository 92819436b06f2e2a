"""Schemas of uploads and submissions, the ways in other than one photograph per request."""

from collections import Counter
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from flask_openapi3 import FileStorage
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.schemas import PHOTOGRAPH, ErrorOut
from shared.domain import REFERENCE_LENGTH, Priority, State
from shared.store.submissions import Submission


class UploadIn(BaseModel):
    """A photograph to be sent."""

    model_config = ConfigDict(extra="forbid", strict=True)

    media_type: Literal["image/jpeg", "image/png", "image/webp"]
    sha256: Annotated[str, Field(pattern="^[0-9A-Fa-f]{64}$"), AfterValidator(str.lower)] | None = Field(
        None,
        description="of the bytes to be sent, in hex; any others are then refused",
        examples=[None],
    )


class UploadOut(BaseModel):
    """Where to send one photograph: a form (`multipart/form-data`) with all `fields`, then the file as `file`."""

    upload_id: UUID
    url: str
    fields: dict[str, str]
    expires_at: datetime = Field(description="until when the form can be sent, and repeated if it was interrupted")
    max_bytes: int


class SubmissionForm(BaseModel):
    """Many photographs: each in its own field, or all in one archive."""

    model_config = ConfigDict(
        extra="forbid",
        arbitrary_types_allowed=True,
        json_schema_extra={"oneOf": [{"required": ["image"]}, {"required": ["archive"]}]},
    )

    image: list[FileStorage] = Field(
        default_factory=list,
        json_schema_extra={"minItems": 1},
        description=f"{PHOTOGRAPH}; the field may be repeated",
    )
    archive: FileStorage | None = Field(None, description="a zip of JPEG, PNG or WebP files")
    priority: Priority = Field(Priority.ROUTINE, description="of every case")


class SubmissionPath(BaseModel):
    submission_id: str = Field(description="the submission's id")


class SubmissionItemOut(BaseModel):
    """One photograph. `refused`: it did not become a case, and `error` says why; otherwise the state is its case's."""

    position: int = Field(description="counts from 1, in the order sent")
    name: str = Field(
        description="the file's as sent; the case's `reference` is the same in Unicode NFC, and both are cut to"
        f" {REFERENCE_LENGTH} characters"
    )
    case_id: UUID | None
    state: State | Literal["refused"]
    error: ErrorOut | None


class SubmissionCountsOut(BaseModel):
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    rejected: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0
    total: int = 0


class SubmissionLinksOut(BaseModel):
    self: str


class SubmissionOut(BaseModel):
    """Photographs that were sent together, without those whose case was deleted.

    `incomplete`: not all have been processed, since the request was interrupted or is still running. Send it again with
    the same `Idempotency-Key` to have the rest processed.
    """

    id: UUID
    state: Literal["complete", "incomplete"]
    counts: SubmissionCountsOut
    items: list[SubmissionItemOut]
    links: SubmissionLinksOut

    @classmethod
    def of(cls, submission: Submission) -> "SubmissionOut":
        """Return a submission as JSON shows it."""
        items = [
            SubmissionItemOut(
                position=item.position,
                name=item.name,
                case_id=item.case_id,
                state=item.state or "refused",
                error=ErrorOut(code=item.error_code, detail=item.error_detail or "") if item.error_code else None,
            )
            for item in submission.items
        ]
        return cls(
            id=submission.id,
            state="complete" if submission.is_complete else "incomplete",
            counts=SubmissionCountsOut(**Counter(item.state for item in items), total=len(items)),
            items=items,
            links=SubmissionLinksOut(self=f"/v1/submissions/{submission.id}"),
        )
