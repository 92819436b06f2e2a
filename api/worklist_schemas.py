"""Schemas of the worklist and of reviews."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from api.parameters import Parameters
from api.schemas import CaseOut
from shared.domain import REVIEW_LABELS, Decision, Review, State, Verdict
from shared.store.worklist import COUNTED_AT_MOST, Entry

_LINES = r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f\ufffd]*$"

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _text_in_lines(text: str) -> str:
    if not re.fullmatch(_LINES, text):
        raise ValueError("must be UTF-8 text without control characters other than tabs and line feeds")
    return text


def _date_time(moment: object) -> object:
    """Refuse text that pydantic would read as a date, or as seconds since 1970."""
    if isinstance(moment, str) and not _DATE_TIME.fullmatch(moment):
        raise ValueError("must be a date and time with a time zone, such as 2026-01-31T08:30:00Z")
    return moment


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be in the years 1 to 9999, in UTC") from error


Moment = Annotated[AwareDatetime, BeforeValidator(_date_time), AfterValidator(_in_utc)]
Note = Annotated[str, Field(max_length=2000, json_schema_extra={"pattern": _LINES}), AfterValidator(_text_in_lines)]


class WorklistQuery(Parameters):
    model_config = ConfigDict(extra="forbid")

    reviewed: bool = Field(False, description="reviewed cases instead of those to review")
    state: Literal[State.SUCCEEDED, State.FAILED] | None = Field(None, description="only cases in this state")
    clinic_id: UUID | None = Field(None, description="only this clinic's cases")
    decision: Decision | None = Field(None, description="only cases with this decision")
    submitted_from: Moment | None = Field(None, description="only cases submitted at this moment or later")
    submitted_before: Moment | None = Field(None, description="only cases submitted before this moment")
    limit: int = Field(50, ge=1, le=200, description="cases on a page")
    cursor: str | None = Field(None, max_length=300, description="from the previous page's `next` link")


class ClinicNameOut(BaseModel):
    id: UUID
    name: str


class WorklistCaseOut(CaseOut):
    clinic: ClinicNameOut
    reviewed: bool
    open_with: list[str] = Field(description="key prefixes of other reviewers who have it open")

    @classmethod
    def in_list(cls, entry: Entry, clinic_name: str, open_with: list[str]) -> "WorklistCaseOut":
        """Return an entry as JSON shows it."""
        clinic = ClinicNameOut(id=entry.case.clinic_id, name=clinic_name)
        case = CaseOut.of(entry.case).model_dump()
        return cls(**case, clinic=clinic, reviewed=entry.reviewed, open_with=open_with)


class WorklistOut(BaseModel):
    cases: list[WorklistCaseOut]
    count: int = Field(description=f"on all pages together; {COUNTED_AT_MOST} means that many or more")


class ClinicNamesOut(BaseModel):
    clinics: list[ClinicNameOut]


class ReviewIn(BaseModel):
    """A reviewer's verdict on a case."""

    model_config = ConfigDict(extra="forbid", strict=True)

    verdict: Verdict = Field(description="on the model's decision; `disagree` for a failed case, which has none")
    label: Literal[REVIEW_LABELS] | None = Field(None, description="the reviewer's diagnosis of the lesion")
    note: Note | None = Field(None, description="for colleagues; no personal data")


class ReviewHeader(Parameters):
    if_match: str | None = Field(
        None,
        alias="If-Match",
        pattern=r'^"[0-9]{1,9}"$',
        description='the `ETag` that you have read; `"0"` for a new case that nobody has reviewed',
    )
    if_none_match: Literal["*"] | None = Field(None, alias="If-None-Match", description='the same as `If-Match: "0"`')

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_absent(cls, sent: str | None) -> str | None:
        return sent or None


class ReviewOut(BaseModel):
    version: int = Field(description="grows with every change; in double quotes, it is the `ETag`")
    verdict: Verdict
    label: Literal[REVIEW_LABELS] | None
    note: str | None
    reviewer: str = Field(description="their key's prefix")
    reviewed_at: datetime
    had_result: bool = Field(description="whether there was a result to agree with; if not, the analysis had failed")

    @classmethod
    def of(cls, review: Review) -> "ReviewOut":
        """Return a review as JSON shows it."""
        return cls.model_validate(review, from_attributes=True)


class ReviewsOut(BaseModel):
    """A case's reviews. None is overwritten: a change moves the review it replaces to `earlier`.

    So does a new analysis of a failed case, since its result has not been reviewed yet.
    """

    review: ReviewOut | None = Field(description="the current one")
    earlier: list[ReviewOut] = Field(description="newest first")


class OpenedOut(BaseModel):
    open_with: list[str] = Field(description="key prefixes of other reviewers who have it open")
