"""What a case is and what may happen to it. Pure: no I/O; the clock and the thresholds are arguments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

CLASSES = ("melanoma", "seborrheic_keratosis", "nevus")
"""The network's outputs, in this order: the three diagnoses of ISIC-2017 Part 3 (Codella et al. 2018)."""

NOTICE = "Decision aid for clinicians. Not a diagnosis: it decides nothing alone."
"""Shown wherever a result could be mistaken for more than it is."""

NO_ALL_CLEAR = "A “routine” is no all-clear."
"""Shown beside the notice, next to a decision."""

EVIDENCE = "The analysis sees the photograph alone. Age, sex and site are for whoever reads the case."
"""Shown where age, sex and site are asked for, and where they appear beside a result."""

REVIEW_LABELS = (*CLASSES, "other")
"""The labels that a reviewer may give a lesion."""

PLAUSIBLE_SHARE = 0.9
"""Target coverage: for each diagnosis, the minimum share of its lesions whose plausible set contains it."""

REFERENCE_LENGTH = 200
"""Maximum characters of a clinic's own name for a case, and so of a file name, which becomes one."""

MAX_ATTEMPTS = 3
"""After this many attempts that failed or were interrupted, a case fails, and a person must look at it."""

LONGEST_LEASE_S = 3600
"""A lease that seems to last longer was given while the clock was wrong."""


class State(StrEnum):
    """queued → running → succeeded | rejected | failed | cancelled."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING)


class Priority(StrEnum):
    """Urgent cases are analysed before every routine one."""

    URGENT = "urgent"
    ROUTINE = "routine"


class Sex(StrEnum):
    """As the ISIC archive records it."""

    FEMALE = "female"
    MALE = "male"
    OTHER = "other"


class Decision(StrEnum):
    """What the model suggests at an operating point; the clinician decides."""

    REFER = "refer"
    ROUTINE = "routine"


class Verdict(StrEnum):
    """A reviewer's opinion of the model's decision."""

    AGREE = "agree"
    DISAGREE = "disagree"


class Role(StrEnum):
    """What a key may do: send cases, read them all, or run the service."""

    CLINIC = "clinic"
    REVIEWER = "reviewer"
    ADMIN = "admin"


class OperatingPoint(BaseModel):
    """A threshold on the melanoma probability, with its sensitivity and specificity as measured for the card.

    The intervals are 95% intervals; None in bundles made before these were measured, and in their results.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    threshold: float = Field(ge=0, le=1)
    sensitivity: float = Field(ge=0, le=1)
    specificity: float = Field(ge=0, le=1)
    sensitivity_interval: tuple[float, float] | None = None
    specificity_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Caller:
    """Who makes a request, according to their key."""

    key_id: UUID
    role: Role
    clinic_id: UUID | None


@dataclass(frozen=True)
class Photograph:
    """A stored photograph. `sha256` is the digest of the bytes that the clinic sent; width and height are in px."""

    key: str
    media_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class NewCase:
    """A case as a clinic submits it, before it has a place in the queue."""

    id: UUID
    clinic_id: UUID
    photograph: Photograph
    priority: Priority
    reference: str | None
    age: int | None
    sex: str | None
    site: str | None
    idempotency_key: str | None
    request_sha256: str
    traceparent: str | None = None


@dataclass(frozen=True)
class Lease:
    """A worker's right to decide one running case until `expires_at`. `token` is new for every claim.

    `submitted_at` is the case's.
    """

    case_id: UUID
    token: UUID
    clinic_id: UUID
    photograph_key: str
    attempt: int
    alone: bool
    submitted_at: datetime
    expires_at: datetime
    traceparent: str | None = None


@dataclass(frozen=True)
class ActivationMaps:
    """Raw Grad-CAM of every class's logit: `values` is little-endian float32 (len(CLASSES), height, width)."""

    values: bytes
    height: int
    width: int


@dataclass(frozen=True)
class Analysis:
    """The network's result for one photograph, with every version that helped to produce it.

    `probabilities` sum to one, in the order of `CLASSES`. `plausible` are the diagnoses that could not be ruled out;
    None for bundles made before this was measured.
    """

    probabilities: tuple[float, ...]
    decision: Decision
    operating_point: OperatingPoint
    model_digest: str
    preprocessing: str
    code_version: str
    warnings: tuple[str, ...]
    overlay_key: str
    plausible: tuple[str, ...] | None = None

    @property
    def melanoma_probability(self) -> float:
        return self.probabilities[CLASSES.index("melanoma")]

    @property
    def uncertain(self) -> bool | None:
        """Whether more than one diagnosis is plausible; None where the bundle cannot tell."""
        return None if self.plausible is None else len(self.plausible) > 1


@dataclass(frozen=True)
class Problem:
    """Why a case has no result. `state` says who must act: the clinic (rejected) or the service's staff (failed)."""

    state: State
    code: str
    detail: str


@dataclass(frozen=True)
class Case:
    """A case, as shown to those who may see it. `version` grows with every visible change."""

    id: UUID
    clinic_id: UUID
    state: State
    version: int
    priority: Priority
    reference: str | None
    age: int | None
    sex: str | None
    site: str | None
    photograph: Photograph
    submitted_at: datetime
    finished_at: datetime | None
    problem: Problem | None
    analysis: Analysis | None
    model_name: str | None
    model_version: str | None


@dataclass(frozen=True)
class Review:
    """A reviewer's verdict on a case. `reviewer` is their key's prefix; `version` grows with every change.

    `had_result`: the reviewer saw a result; if not, the analysis had failed, and the verdict agrees with nothing.
    """

    case_id: UUID
    version: int
    verdict: Verdict
    label: str | None
    note: str | None
    reviewer: str
    reviewed_at: datetime
    had_result: bool


def decide(melanoma_probability: float, point: OperatingPoint) -> Decision:
    """Return `refer` at or above the operating point's threshold."""
    return Decision.REFER if melanoma_probability >= point.threshold else Decision.ROUTINE


def find_plausible(
    probabilities: Sequence[float], plausible_from: Sequence[float], decision: Decision
) -> tuple[str, ...]:
    """Return the prediction set: the diagnoses that cannot be ruled out.

    Those are the ones whose probability reaches the bundle's threshold for them, and the most probable one. A referred
    case always includes melanoma, so that decision and prediction set never contradict each other.
    """
    return tuple(
        name
        for name, probability, least in zip(CLASSES, probabilities, plausible_from, strict=True)
        if probability >= least
        or probability == max(probabilities)
        or (name == "melanoma" and decision is Decision.REFER)
    )


def rank_for_review(urgency: int, melanoma_probability: float | None) -> float:
    """Return a case's rank on the worklist, lowest first: urgent cases (urgency 0) by melanoma probability, then
    routine ones (1) by theirs. A failed case has none and ranks as a certain melanoma: nothing is known about it.
    """
    return 2.0 * urgency - (1.0 if melanoma_probability is None else melanoma_probability)


def workers_needed(
    waiting: int, arriving_per_minute: float, minutes: float, images_per_minute: float | None
) -> int | None:
    """Return how many workers at this rate clear the backlog within `minutes` while more cases arrive.

    None: the rate is unknown.
    """
    if not images_per_minute:
        return None
    return math.ceil((waiting / minutes + arriving_per_minute) / images_per_minute)


def problem_after_lost_lease(attempts: int) -> Problem | None:
    """Return why a case whose worker vanished fails, or None if it is to be retried, in a batch of its own."""
    if attempts < MAX_ATTEMPTS:
        return None
    return Problem(
        State.FAILED,
        "analysis_interrupted",
        f"The analysis was started {attempts} times and never finished. A person must look at this case.",
    )
