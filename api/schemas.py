"""Schemas: requests as they are validated, answers as they are documented."""

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from flask_openapi3 import FileStorage
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from api.parameters import Parameters
from shared.domain import (
    CLASSES,
    EVIDENCE,
    NOTICE,
    REFERENCE_LENGTH,
    Case,
    Decision,
    OperatingPoint,
    Priority,
    Sex,
    State,
)
from shared.photograph import MAX_ASPECT, MAX_PIXELS, MAX_PIXELS_WHOLE, MIN_SIDE

PHOTOGRAPH = (
    f"JPEG, PNG or WebP of at most {MAX_PIXELS / 1e6:.0f} megapixels ({MAX_PIXELS_WHOLE / 1e6:.0f} in a WebP or a"
    f" progressive JPEG); the shorter side at least {MIN_SIDE} px, the longer side at most {MAX_ASPECT} times as long"
)
PLAIN = r"^[^\u0000-\u001f\u007f-\u009f\ufffd]*$"
"""Invalid UTF-8 has become U+FFFD by now; PostgreSQL cannot store NUL, and lists cannot show line breaks."""


def plain_text(text: str) -> str:
    """Return the text, or raise ValueError."""
    if not re.fullmatch(PLAIN, text):
        raise ValueError("must be UTF-8 text without control characters")
    return text


def whole(number: object) -> object:
    """Return 54.0 as 54: to JSON Schema it is an integer."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def composed(text: object) -> object:
    """Return text in Unicode's NFC, as it is typed; macOS decomposes accented letters in file names."""
    return unicodedata.normalize("NFC", text) if isinstance(text, str) else text


Reference = Annotated[
    str,
    Field(max_length=REFERENCE_LENGTH, json_schema_extra={"pattern": PLAIN}),
    BeforeValidator(composed),
    AfterValidator(plain_text),
]
Site = Annotated[str, Field(max_length=100, json_schema_extra={"pattern": PLAIN}), AfterValidator(plain_text)]
Age = Annotated[int, Field(ge=0, le=120), BeforeValidator(whole)]


class CasePath(BaseModel):
    case_id: str = Field(description="the case's id")


class CaseFields(BaseModel):
    """What a clinic may say about a case."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    reference: Reference | None = Field(
        None, description="your own name for the case; no personal data", examples=["mole-17"]
    )
    priority: Priority = Priority.ROUTINE
    age: Age | None = Field(None, description=f"in years. {EVIDENCE}", examples=[54])
    sex: Sex | None = None
    site: Site | None = Field(None, description="body site", examples=["left calf"])


class SubmitForm(CaseFields):
    """One photograph of one lesion, with what is known about it."""

    image: FileStorage = Field(description=PHOTOGRAPH)


class SubmitUpload(CaseFields):
    """A photograph that was sent to an upload, with what is known about it."""

    model_config = ConfigDict(strict=True)

    upload_id: UUID = Field(description="of the upload to which the photograph was sent")


class SubmitHeader(Parameters):
    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[ -~]+$",
        description="repeating a request with the same key answers with the same case instead of making another",
    )


class ReadHeader(Parameters):
    if_none_match: str | None = Field(
        None, alias="If-None-Match", description="the last `ETag`: the answer is 304 while nothing has changed"
    )
    prefer: str | None = Field(
        None, alias="Prefer", description="`wait=20` delays the answer until the case is final, for at most 20 s"
    )


class ListQuery(Parameters):
    model_config = ConfigDict(extra="forbid")

    state: State | None = Field(None, description="only cases in this state")
    reference: Reference | None = Field(None, description="only cases with exactly this reference")
    limit: int = Field(50, ge=1, le=200, description="cases on a page")
    cursor: str | None = Field(None, max_length=200, description="from the previous page's `next` link")


class HeatmapQuery(Parameters):
    model_config = ConfigDict(extra="forbid")

    class_: Literal[CLASSES] = Field("melanoma", alias="class", description="the class whose heatmap is wanted")
    style: Literal["overlay", "heatmap", "raw"] = Field(
        "overlay", description="overlay, heatmap: PNG; raw: .npy, float32 (h, w), Grad-CAM of the class's logit"
    )


class ImageOut(BaseModel):
    width: int
    height: int
    media_type: str
    sha256: str = Field(description="of the bytes as sent")
    size_bytes: int


class ModelOut(BaseModel):
    name: str
    version: str
    digest: str


class ProbabilitiesOut(BaseModel):
    """They sum to one."""

    melanoma: float
    seborrheic_keratosis: float
    nevus: float


class ResultOut(BaseModel):
    probabilities: ProbabilitiesOut
    melanoma_probability: float = Field(description="compared with the threshold for `decision`; also ranks cases")
    decision: Decision
    operating_point: OperatingPoint
    model: ModelOut
    preprocessing: str = Field(description="how the photograph was turned into the model's input")
    code_version: str
    warnings: list[str] = Field(description="reasons to trust this result less")
    plausible: list[Literal[CLASSES]] | None = Field(
        description="the diagnoses that cannot be ruled out; null where the bundle cannot tell"
    )
    uncertain: bool | None = Field(
        description="whether more than one diagnosis is plausible; null where the bundle cannot tell"
    )
    notice: str = NOTICE


class ErrorOut(BaseModel):
    code: str
    detail: str


class LinksOut(BaseModel):
    self: str
    image: str
    heatmap: str | None = Field(description="null until there is a result")


class CaseOut(BaseModel):
    """A case. `rejected`: the photograph cannot be analysed; `error` says why. `failed`: a person must look at it."""

    id: UUID
    state: State
    reference: str | None
    priority: Priority
    age: int | None
    sex: Sex | None
    site: str | None
    submitted_at: datetime
    finished_at: datetime | None
    image: ImageOut
    result: ResultOut | None
    error: ErrorOut | None
    links: LinksOut

    @classmethod
    def of(cls, case: Case) -> "CaseOut":
        """Return a case as JSON shows it."""
        photograph, address = case.photograph, f"/v1/cases/{case.id}"
        return cls(
            id=case.id,
            state=case.state,
            reference=case.reference,
            priority=case.priority,
            age=case.age,
            sex=case.sex,
            site=case.site,
            submitted_at=case.submitted_at,
            finished_at=case.finished_at,
            image=ImageOut.model_validate(photograph, from_attributes=True),
            result=_result(case),
            error=ErrorOut(code=case.problem.code, detail=case.problem.detail) if case.problem else None,
            links=LinksOut(
                self=address, image=f"{address}/image", heatmap=f"{address}/heatmap" if case.analysis else None
            ),
        )


class CaseListOut(BaseModel):
    cases: list[CaseOut]


class CurrentModelOut(BaseModel):
    """The bundle in use: its digest, manifest and card."""

    digest: str
    manifest: dict
    card: str = Field(description="Markdown: data, figures with intervals, where it fails")
    notice: str = NOTICE


class HealthOut(BaseModel):
    status: str


class ReadyOut(BaseModel):
    """`degraded`: cases are accepted, but the broker is unreachable, so their analysis is delayed."""

    status: Literal["ready", "degraded", "unavailable"]
    sql: bool
    s3: bool
    broker: bool


def _result(case: Case) -> ResultOut | None:
    analysis = case.analysis
    if analysis is None:
        return None
    return ResultOut(
        probabilities=ProbabilitiesOut(**dict(zip(CLASSES, analysis.probabilities, strict=True))),
        melanoma_probability=analysis.melanoma_probability,
        decision=analysis.decision,
        operating_point=analysis.operating_point,
        model=ModelOut(name=case.model_name, version=case.model_version, digest=analysis.model_digest),
        preprocessing=analysis.preprocessing,
        code_version=analysis.code_version,
        warnings=list(analysis.warnings),
        plausible=analysis.plausible,
        uncertain=analysis.uncertain,
    )
