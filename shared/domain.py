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
"""Stands wherever a result could be mistaken for more than it is."""

NO_ALL_CLEAR = "A “routine” is no all-clear."
"""Stands beside the notice where a decision is shown."""

EVIDENCE = "The analysis sees the photograph alone. Age, sex and site are for whoever reads the case."
"""Stands where these are asked for, and where they are shown beside a result."""

REVIEW_LABELS = (*CLASSES, "other")
"""What a reviewer may say that a lesion is."""

PLAUSIBLE_SHARE = 0.9
"""For each diagnosis, the least share of its lesions whose plausible set contains it (coverage)."""

REFERENCE_LENGTH = 200
"""Characters, at the most, of a clinic's own name for a case: so also of a file's name, which becomes one."""

MAX_ATTEMPTS = 3
"""After so many analyses that ended a worker, a human must look."""


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
    """What a reviewer says of the model's decision."""

    AGREE = "agree"
    DISAGREE = "disagree"


class Role(StrEnum):
    """What a key may do: send cases, read them all, or run the service."""

    CLINIC = "clinic"
    REVIEWER = "reviewer"
    ADMIN = "admin"


class OperatingPoint(BaseModel):
    """A threshold on the melanoma probability, and what it gives by the card's measurement.

    The intervals are of 95 %; bundles made before they were measured, and results of these, have none.
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
    """Who is asking, as their key says."""

    key_id: UUID
    role: Role
    clinic_id: UUID | None


@dataclass(frozen=True)
class Photograph:
    """What is known of a stored photograph. `sha256` is that of the bytes the clinic sent; sizes in px and bytes."""

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
    """What the network said of one photograph, and every version that took part in saying it.

    `probabilities` sum to one, in the order of `CLASSES`. `plausible` are the diagnoses that it could not rule out;
    bundles made before that was measured say nothing of it.
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
    """Why a case has no result. `state` says whose turn it is: the clinic's (rejected) or a human's here (failed)."""

    state: State
    code: str
    detail: str


@dataclass(frozen=True)
class Case:
    """A case as those who may see it see it. `version` grows with every visible change."""

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
    """What a reviewer says of a case. `reviewer` is their key's prefix; `version` grows with every change."""

    case_id: UUID
    version: int
    verdict: Verdict
    label: str | None
    note: str | None
    reviewer: str
    reviewed_at: datetime


def decide(melanoma_probability: float, point: OperatingPoint) -> Decision:
    """Return `refer` at or above the operating point's threshold."""
    return Decision.REFER if melanoma_probability >= point.threshold else Decision.ROUTINE


def find_plausible(
    probabilities: Sequence[float], plausible_from: Sequence[float], decision: Decision
) -> tuple[str, ...]:
    """Return the prediction set, the diagnoses that cannot be ruled out: whose probability reaches what the bundle
    names for them, and the most probable one. Melanoma is among them wherever the case is referred, so that the two
    never contradict.
    """
    return tuple(
        name
        for name, probability, least in zip(CLASSES, probabilities, plausible_from, strict=True)
        if probability >= least
        or probability == max(probabilities)
        or (name == "melanoma" and decision is Decision.REFER)
    )


def rank_for_review(urgency: int, melanoma_probability: float | None) -> float:
    """Return a place in the reviewers' list, lowest first: urgent cases (urgency 0) by their melanoma probability, then
    routine ones (1) by theirs. A failed case has none, and stands where a certain melanoma would: of it nobody knows.
    """
    return 2.0 * urgency - (1.0 if melanoma_probability is None else melanoma_probability)


def workers_needed(
    waiting: int, arriving_per_minute: float, minutes: float, images_per_minute: float | None
) -> int | None:
    """Return how many workers of this rate clear a backlog in so many minutes while more cases arrive.

    None: the rate is not known.
    """
    if not images_per_minute:
        return None
    return math.ceil((waiting / minutes + arriving_per_minute) / images_per_minute)


def problem_after_lost_lease(attempts: int) -> Problem | None:
    """Return why a case whose worker vanished is given up on, or None if it is to be tried again, alone."""
    if attempts < MAX_ATTEMPTS:
        return None
    return Problem(
        State.FAILED,
        "analysis_interrupted",
        f"The analysis was begun {attempts} times and never finished. A person must look at this case.",
    )
