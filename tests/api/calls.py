"""How the tests of the API talk to it, and the made-up model whose results they read."""

import io
from dataclasses import dataclass
from datetime import datetime
from threading import BoundedSemaphore
from typing import NamedTuple
from uuid import UUID

import numpy as np
from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from shared.bundle import Figure, Manifest, Preprocessing
from shared.database import Database, read_clock
from shared.domain import CLASSES, ActivationMaps, Analysis, Decision, Lease, OperatingPoint, Problem, State
from shared.object_keys import overlay_key
from shared.storage import ObjectStore
from shared.store import models, queue
from tests import images

PROBLEM_FIELDS = ["type", "title", "status", "detail", "code"]
JPEG = images.telling_jpeg(images.lesion())

POINT = OperatingPoint(name="high-sensitivity", threshold=0.3, sensitivity=0.9, specificity=0.6)
MANIFEST = Manifest(
    name="made-up",
    version="1.2.3",
    architecture="resnet50-v1",
    labels=CLASSES,
    preprocessing=Preprocessing(input_side=224, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
    temperature=1.5,
    operating_points=(POINT,),
    default_operating_point=POINT.name,
    heatmap_scales=(2.0, 1.0, 0.5),
    weights_sha256="a" * 64,
    data_sha256="b" * 64,
    trained_on="nothing",
    licence="none",
    figures={"auc": Figure(value=0.5, low=0.4, high=0.6, n=10)},
    limits=("It is *made up* by `tests`.",),
)
MODEL_DIGEST = "c" * 64
PROBABILITIES = (0.625, 0.25, 0.125)
PLAUSIBLE = ("melanoma", "seborrheic_keratosis")
WARNINGS = ("photograph_small",)
MAPS = np.zeros((len(CLASSES), 7, 7), np.float32)
MAPS[0, 0, 0], MAPS[1, 0, 6], MAPS[2, 6, 6] = 2.0, 0.75, 0.25
"""Raw Grad-CAM per class: the network looked at another corner for every class; the bottom left is cold for all."""

STORED_OVERLAY = images.encode(images.red_corner(), "PNG")
"""What the worker is supposed to have drawn; the API would not draw the like."""


class File(NamedTuple):
    """A file in a form."""

    data: bytes = JPEG
    name: str = "lesion.jpg"
    media_type: str = "image/jpeg"


@dataclass(frozen=True)
class Api:
    """The API as the holder of one key sees it."""

    client: FlaskClient
    key: str | None

    def call(self, method: str, address: str, headers: dict | None = None, **options) -> TestResponse:
        bearer = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return self.client.open(address, method=method, headers=bearer | (headers or {}), **options)

    def get(self, address: str, **options) -> TestResponse:
        return self.call("GET", address, **options)

    def submit(self, image: bytes = JPEG, headers: dict | None = None, **fields) -> TestResponse:
        return self.submit_form({"image": File(image)} | fields, headers)

    def submit_form(self, fields: dict, headers: dict | None = None, address: str = "/v1/cases") -> TestResponse:
        """Send text, files, or lists of either."""
        as_lists = {name: value if isinstance(value, list) else [value] for name, value in fields.items()}
        boundary, body = encode_multipart(
            {name: [_as_sent(value) for value in values] for name, values in as_lists.items()}
        )
        return self.submit_body(body, f"multipart/form-data; boundary={boundary}", headers, address)

    def submit_body(
        self, body: bytes, content_type: str | None, headers: dict | None = None, address: str = "/v1/cases"
    ) -> TestResponse:
        return self.call("POST", address, headers, data=body, content_type=content_type)


@dataclass(frozen=True)
class Clinic(Api):
    """The API as one clinic sees it."""

    id: UUID


def _as_sent(value: str | File) -> str | FileStorage:
    return value if isinstance(value, str) else FileStorage(io.BytesIO(value.data), value.name, None, value.media_type)


def read_list(response: TestResponse) -> list[dict]:
    """Return the cases on a page."""
    assert response.status_code == 200, response.text
    return response.json["cases"]


def read_problem(response: TestResponse, status: int) -> dict:
    """Return the problem that the response holds, having checked that it is one, whole and without our insides."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    problem = response.json
    assert list(problem) == PROBLEM_FIELDS
    assert problem["status"] == status
    assert problem["type"] == f"urn:dermqueue:problem:{problem['code']}"
    assert problem["detail"].endswith((".", "?"))
    lowered = response.text.lower()
    for inside in ("traceback", 'file "', "select ", "insert ", "sqlalchemy", "psycopg", "botocore", "werkzeug", ".py"):
        assert inside not in lowered
    assert not any(f"/{folder}/" in lowered for folder in ("home", "usr", "opt", "tmp", "var", "root"))
    return problem


FAILED = Problem(State.FAILED, "analysis_failed", "The analysis failed. A person must look at this case.")
UNUSABLE = Problem(State.REJECTED, "image_flat", "The photograph is of one colour.")


def activate_model(database: Database) -> None:
    """Do as a worker that has loaded the made-up model."""
    with database.writing() as session:
        models.activate_model(session, MODEL_DIGEST, MANIFEST.model_dump(mode="json"), "# Made up", read_clock(session))


def record_result(
    database: Database,
    store: ObjectStore,
    case_id: str,
    overlay: bytes = STORED_OVERLAY,
    plausible: tuple[str, ...] | None = PLAUSIBLE,
    warnings: tuple[str, ...] = WARNINGS,
) -> None:
    """Do as a worker that claims one case and succeeds; other waiting cases are given back."""
    activate_model(database)
    with database.writing() as session:
        now = read_clock(session)
        _succeed(session, store, _claim(session, case_id, now), overlay, now, plausible, warnings)


def record_problem(database: Database, case_id: str, problem: Problem = FAILED) -> None:
    """Do as a worker that claims one case and has no result for it; other waiting cases are given back."""
    with database.writing() as session:
        now = read_clock(session)
        assert queue.record_problem(session, _claim(session, case_id, now), problem, now)


def work_off_older_half(database: Database, store: ObjectStore) -> None:
    """Do as a worker that claims half of what waits, gives up on every third case and succeeds with the others."""
    with database.writing() as session:
        now = read_clock(session)
        half = queue.count_waiting(session, now, 100) // 2
        for number, lease in enumerate(queue.claim_cases(session, half, 60, now)):
            if number % 3 == 2:
                assert queue.record_problem(session, lease, FAILED, now)
            else:
                _succeed(session, store, lease, STORED_OVERLAY, now)


def _claim(session: Session, case_id: str, now: datetime) -> Lease:
    leases = queue.claim_cases(session, 100, 60, now)
    (mine,) = [lease for lease in leases if lease.case_id == UUID(case_id)]
    for lease in leases:
        if lease is not mine:
            queue.return_case(session, lease, now, alone=False, counted=False)
    return mine


def _succeed(
    session: Session,
    store: ObjectStore,
    lease: Lease,
    overlay: bytes,
    now: datetime,
    plausible: tuple[str, ...] | None = PLAUSIBLE,
    warnings: tuple[str, ...] = WARNINGS,
) -> None:
    key = overlay_key(lease.clinic_id, lease.case_id, lease.token)
    store.put(key, overlay, "image/png")
    analysis = Analysis(
        probabilities=PROBABILITIES,
        decision=Decision.REFER,
        operating_point=POINT,
        model_digest=MODEL_DIGEST,
        preprocessing="squash-256-jpeg-bilinear-224",
        code_version="0.1.0",
        warnings=warnings,
        overlay_key=key,
        plausible=plausible,
    )
    maps = ActivationMaps(MAPS.astype("<f4").tobytes(), *MAPS.shape[1:])
    assert queue.record_analyses(session, [(lease, analysis, maps)], now).written == {lease.case_id}


def take_all(seats: BoundedSemaphore) -> None:
    while seats.acquire(blocking=False):
        pass
