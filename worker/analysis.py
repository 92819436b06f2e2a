"""The analysis of one batch: fetch and decode side by side, one forward pass, overlays into the object store."""

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from importlib.metadata import version
from threading import Lock, Semaphore
from uuid import UUID, uuid4

import numpy as np
from PIL import Image

from shared.domain import (
    CLASSES,
    MAX_ATTEMPTS,
    ActivationMaps,
    Analysis,
    Lease,
    OperatingPoint,
    Problem,
    State,
    decide,
    find_plausible,
)
from shared.errors import ImageRejected, ModelUnusable, ObjectMissing, ObjectRefused, Unavailable
from shared.heatmap import OVERLAY_CLASS, draw_overlay, encode_overlay, scale_to_saliency
from shared.log_ids import logged_with, request_of
from shared.photograph import decode_photograph
from shared.storage import UPLOADS, ObjectStore, digest_in_key, overlay_key
from worker.counters import stage
from worker.frame import DECODED_SIDE, prepare_frame, shrink_for_overlay, squash_frame
from worker.lesion import lies_off_lesion
from worker.model import Model, Reading
from worker.quality import NOT_DERMOSCOPIC, inspect_frame

_CODE_VERSION = version("dermqueue")
_REFUSED_AGE, _REFUSED_FOR_S, _REFUSALS = timedelta(days=1), 600.0, 10_000
"""A photograph that the store refuses to give may yet come, until its case is so old and it was refused for so long.

A store that has just been started, like the worker, after days, may refuse what it gives ten minutes later.
Of so many photographs at the most it is known how long they have been refused.
"""

_LARGE_AT_ONCE = 4
"""Photographs that take up to 360 MB to be decoded: 1.4 GB in all, where one in each thread would take 6."""


@dataclass(frozen=True)
class Finding:
    """A case that was analysed; its overlay is stored."""

    lease: Lease
    analysis: Analysis
    maps: ActivationMaps


@dataclass(frozen=True)
class NoFinding:
    """A case that ends without a result, and why."""

    lease: Lease
    problem: Problem


class Why(Enum):
    """Why a case is put off. Of these, `ANALYSIS_FAILED` alone may lie in the case, and counts as an attempt."""

    STORE_AWAY = auto()
    PHOTOGRAPH_REFUSED = auto()
    DEVICE_LOST = auto()
    ANALYSIS_FAILED = auto()


@dataclass(frozen=True)
class Postponed:
    """A case to be tried again."""

    lease: Lease
    why: Why

    @property
    def counted(self) -> bool:
        """Whether it costs the case an attempt."""
        return self.why is Why.ANALYSIS_FAILED

    @property
    def alone(self) -> bool:
        """Whether the case is tried by itself from now on: it may be what its neighbours met with."""
        return self.lease.alone or self.why in (Why.DEVICE_LOST, Why.ANALYSIS_FAILED)


Outcome = Finding | NoFinding | Postponed


def blame(lease: Lease) -> Outcome:
    """Count an attempt that failed for a reason that may lie in the case; after the last one a human must look."""
    if lease.attempt < MAX_ATTEMPTS:
        return Postponed(lease, Why.ANALYSIS_FAILED)
    detail = f"The analysis failed {lease.attempt} times. A person must look at this case."
    return NoFinding(lease, Problem(State.FAILED, "analysis_failed", detail))


@dataclass(frozen=True)
class _Decoded:
    """`photograph` is RGB at overlay size; `pixels` is uint8 (side, side, 3)."""

    lease: Lease
    photograph: Image.Image
    pixels: np.ndarray
    warnings: tuple[str, ...]


class _Refusals:
    """For how long the store has refused which photographs, as this process has seen it."""

    def __init__(self):
        # When it began and when it was last; the latest one at the end.
        self._seen: dict[UUID, tuple[float, float]] = {}
        self._lock = Lock()

    def note(self, case_id: UUID) -> float:
        """Note one more refusal; return for how many seconds there was nothing else."""
        now_s = time.monotonic()
        with self._lock:
            began_s, last_s = self._seen.pop(case_id, (now_s, now_s))
            if now_s - last_s > _REFUSED_FOR_S:  # meanwhile another process may have been given it
                began_s = now_s
            self._seen[case_id] = began_s, now_s
            if len(self._seen) > _REFUSALS:
                del self._seen[next(iter(self._seen))]
        return now_s - began_s

    def forget(self, case_id: UUID) -> None:
        """Begin anew: it was given, its case has ended, or the store was away."""
        with self._lock:
            self._seen.pop(case_id, None)


class Analyst:
    """Analyses batches with one model at one operating point. Thread-safe.

    `device_lost`: nothing can be read any more, and the process must end. That costs an attempt only the case that had
    the device to itself: each of those that were read together is tried alone first.
    """

    def __init__(self, model: Model, store: ObjectStore, operating_point: OperatingPoint, pool: ThreadPoolExecutor):
        self._model, self._store, self._point, self._pool = model, store, operating_point, pool
        self._large = Semaphore(_LARGE_AT_ONCE)
        self._refusals = _Refusals()
        self.device_lost = False

    def analyze_batch(self, leases: Sequence[Lease]) -> list[Outcome]:
        """Return one outcome per lease. Each case fails or is postponed for itself; its neighbours go on."""
        prepared = list(self._pool.map(self._settle(self._fetch_and_decode), leases))
        decoded = [item for item in prepared if isinstance(item, _Decoded)]
        return [item for item in prepared if not isinstance(item, _Decoded)] + self._read_and_finish(decoded)

    def _read_and_finish(self, decoded: Sequence[_Decoded]) -> list[Outcome]:
        if not decoded:
            return []
        try:
            forward = stage("forward", [item.lease for item in decoded])
            reading = self._model.read(np.stack([item.pixels for item in decoded]), forward)
        except Exception as error:  # of a device that is dead, every photograph raises something
            if not self._model.is_working():
                self.device_lost = True
                leases = [item.lease for item in decoded]
                return [blame(lease) if lease.alone else Postponed(lease, Why.DEVICE_LOST) for lease in leases]
            if not isinstance(error, ModelUnusable):
                raise
            if len(decoded) == 1:
                return [NoFinding(decoded[0].lease, Problem(State.FAILED, error.code, error.detail))]
            # One photograph may have spoilt the batch: each is read by itself, so that only that one fails.
            return [outcome for item in decoded for outcome in self._read_and_finish([item])]
        finish = self._settle(lambda item, position: self._finish(item, reading, position))
        return list(self._pool.map(finish, decoded, range(len(decoded))))

    def _settle(self, step: Callable) -> Callable:
        """Turn the errors that concern one case alone into its outcome."""

        def settled(item: Lease | _Decoded, *arguments):
            lease = item.lease if isinstance(item, _Decoded) else item
            try:
                with logged_with(case_id=lease.case_id, request_id=request_of(lease.traceparent)):
                    return step(item, *arguments)
            except ImageRejected as error:
                return NoFinding(lease, Problem(State.REJECTED, error.code, error.detail))
            except ObjectMissing as error:
                return NoFinding(lease, Problem(State.FAILED, error.code, error.detail))
            except Unavailable as error:
                # A store that refuses an overlay refuses them all: that is no matter of one photograph.
                refused = isinstance(error, ObjectRefused) and isinstance(item, Lease)
                return Postponed(lease, Why.PHOTOGRAPH_REFUSED if refused else Why.STORE_AWAY)

        return settled

    def _fetch(self, lease: Lease) -> bytes:
        try:
            data = self._store.get(lease.photograph_key)
        except ObjectRefused as error:
            is_old = lease.expires_at - lease.submitted_at >= _REFUSED_AGE
            if not (self._refusals.note(lease.case_id) >= _REFUSED_FOR_S and is_old and self._gives_others()):
                raise
            self._refusals.forget(lease.case_id)
            detail = (
                "The image store has refused to give this photograph, again and again. A person must look at this case."
            )
            raise ObjectMissing("object_unreadable", detail) from error
        except (ObjectMissing, Unavailable):
            self._refusals.forget(lease.case_id)
            raise
        self._refusals.forget(lease.case_id)
        return data

    def _gives_others(self) -> bool:
        """Tell whether the store gives what was put there just now: a key that may read nothing blames no case."""
        probe = f"{UPLOADS}probe-{uuid4()}"  # so that a purge removes one that stays
        try:
            self._store.put(probe, b"", "text/plain")
            self._store.get(probe)
        except (ObjectMissing, Unavailable):
            return False
        finally:
            with suppress(Unavailable):  # a key may well be allowed to delete nothing
                self._store.delete(probe)
        return True

    def _fetch_and_decode(self, lease: Lease) -> _Decoded:
        with stage("fetch", [lease]):
            data = self._fetch(lease)
        if hashlib.sha256(data).hexdigest() != digest_in_key(lease.photograph_key):
            raise ObjectMissing("object_damaged", "The stored photograph is not the one that was sent.")
        preprocessing = self._model.manifest.preprocessing
        side = preprocessing.input_side
        with stage("decode", [lease]):
            photograph = decode_photograph(data, DECODED_SIDE, self._large)
            frame = squash_frame(photograph)
            warnings = (("low_resolution",) if min(photograph.size) < side else ()) + inspect_frame(frame)
            small, pixels = shrink_for_overlay(photograph), prepare_frame(frame, preprocessing)
        return _Decoded(lease, small, pixels, warnings)

    def _finish(self, item: _Decoded, reading: Reading, position: int) -> Finding:
        lease, manifest = item.lease, self._model.manifest
        maps = reading.maps[position]
        drawn = CLASSES.index(OVERLAY_CLASS)
        with stage("render", [lease]):
            saliency = scale_to_saliency(maps[drawn], manifest.heatmap_scales[drawn])
            overlay = encode_overlay(draw_overlay(item.photograph, saliency))
            off_lesion = ("attention_off_lesion",) if lies_off_lesion(item.pixels, saliency) else ()
        key = overlay_key(lease.clinic_id, lease.case_id, lease.token)
        with stage("store", [lease]):
            self._store.put(key, overlay, "image/jpeg")
        probabilities = tuple(float(p) for p in reading.probabilities[position])
        unfamiliar = (NOT_DERMOSCOPIC,) if reading.unfamiliar[position] else ()
        decision = decide(probabilities[CLASSES.index("melanoma")], self._point)
        plausible = manifest.plausible_from and find_plausible(probabilities, manifest.plausible_from, decision)
        analysis = Analysis(
            probabilities=probabilities,
            decision=decision,
            operating_point=self._point,
            model_digest=self._model.digest,
            preprocessing=manifest.preprocessing.describe(),
            code_version=_CODE_VERSION,
            warnings=item.warnings + unfamiliar + off_lesion,
            overlay_key=key,
            plausible=plausible,
        )
        return Finding(lease, analysis, ActivationMaps(maps.astype("<f4").tobytes(), *maps.shape[1:]))
