"""What goes over the wire: requests as they are checked, answers as they are documented."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from flask_openapi3 import FileStorage
from pydantic import BaseModel, ConfigDict, Field

from shared.domain import CLASSES, Case, Decision, OperatingPoint, Priority, Sex, State

NOTICE = "Decision aid for clinicians. Not a diagnosis: it decides nothing alone."


class CasePath(BaseModel):
    case_id: str = Field(description="the case's id")


class SubmitForm(BaseModel):
    """One photograph of one lesion, with what is known of it."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    image: FileStorage = Field(description="JPEG, PNG or WebP")
    reference: str | None = Field(None, max_length=200, description="your own name for the case; no personal data")
    priority: Priority = Priority.ROUTINE
    age: int | None = Field(None, ge=0, le=120, description="years")
    sex: Sex | None = None
    site: str | None = Field(None, max_length=100, description="where on the body")


class SubmitHeader(BaseModel):
    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="sent again with the same request, it gives the same case and not a second one",
    )


class ListQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    reference: str | None = Field(None, max_length=200)
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, max_length=200, description="from the `next` link of the page before")


class HeatmapQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    class_: Literal[CLASSES] = Field("melanoma", alias="class", description="whose heatmap")
    style: Literal["overlay", "heatmap", "raw"] = Field(
        "overlay", description="overlay and heatmap: PNG; raw: .npy, float32 (h, w), Grad-CAM of the class's logit"
    )


class ImageOut(BaseModel):
    width: int
    height: int
    media_type: str
    sha256: str = Field(description="of the bytes that you sent")
    size_bytes: int


class ModelOut(BaseModel):
    name: str
    version: str
    digest: str


class ResultOut(BaseModel):
    probabilities: dict[str, float]
    melanoma_probability: float
    decision: Decision
    operating_point: OperatingPoint
    model: ModelOut
    preprocessing: str
    code_version: str
    warnings: list[str]
    notice: str = NOTICE


class ErrorOut(BaseModel):
    code: str
    detail: str


class LinksOut(BaseModel):
    self: str
    image: str
    heatmap: str | None


class CaseOut(BaseModel):
    """A case. `rejected`: the photograph cannot be analysed, `error` says why. `failed`: a human must look at it."""

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
        """Return what of a case goes over the wire."""
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
    """The bundle that workers use: its manifest, its card and its digest."""

    digest: str
    manifest: dict
    card: str = Field(description="Markdown: data, figures with intervals, where it fails")
    notice: str = NOTICE


class HealthOut(BaseModel):
    status: str


class ReadyOut(BaseModel):
    """`degraded`: cases are taken, but the broker is away and they wait until it is back."""

    status: Literal["ready", "degraded", "unavailable"]
    sql: bool
    s3: bool
    broker: bool


def _result(case: Case) -> ResultOut | None:
    analysis = case.analysis
    if analysis is None:
        return None
    return ResultOut(
        probabilities=dict(zip(CLASSES, analysis.probabilities, strict=True)),
        melanoma_probability=analysis.melanoma_probability,
        decision=analysis.decision,
        operating_point=analysis.operating_point,
        model=ModelOut(name=case.model_name, version=case.model_version, digest=analysis.model_digest),
        preprocessing=analysis.preprocessing,
        code_version=analysis.code_version,
        warnings=list(analysis.warnings),
    )
