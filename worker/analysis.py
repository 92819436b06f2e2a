"""Analyses one batch: fetches and decodes in parallel, runs one forward pass, stores the overlays."""

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from importlib.metadata import version
from threading import Semaphore

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
from shared.errors import ImageRejected, ModelUnusable, ObjectMissing, ObjectRefused, ObjectTimedOut, Unavailable
from shared.heatmap import OVERLAY_CLASS, draw_overlay, encode_overlay, scale_to_saliency
from shared.log_ids import logged_with, request_of
from shared.object_keys import digest_in_key, overlay_key
from shared.photograph import decode_photograph
from shared.storage import ObjectStore
from worker.counters import stage
from worker.frame import DECODED_SIDE, prepare_frame, shrink_for_overlay, squash_frame
from worker.lesion import lies_off_lesion
from worker.model import Model, Reading
from worker.photographs import PhotographStore
from worker.quality import NOT_DERMOSCOPIC, inspect_frame

_CODE_VERSION = version("dermqueue")
_LARGE_AT_ONCE = 4
"""Large photographs decoded at once, at up to 360 MB each: 1.4 GB in total; one per thread would take 6 GB."""

_IN_TURN_S = 10.0
"""With the deadline of the fetches before, and of the last one that begins within it: below the default lease."""


@dataclass(frozen=True)
class Finding:
    """An analysed case; its overlay is stored."""

    lease: Lease
    analysis: Analysis
    maps: ActivationMaps


@dataclass(frozen=True)
class NoFinding:
    """A case that ends without a result, and why."""

    lease: Lease
    problem: Problem


class Reason(Enum):
    """Why a case is postponed. Only `ANALYSIS_FAILED` counts as an attempt: the case itself may be to blame."""

    STORE_UNAVAILABLE = auto()
    PHOTOGRAPH_REFUSED = auto()
    PHOTOGRAPH_TIMED_OUT = auto()
    DEVICE_LOST = auto()
    ANALYSIS_FAILED = auto()


_REASONS = {ObjectRefused: Reason.PHOTOGRAPH_REFUSED, ObjectTimedOut: Reason.PHOTOGRAPH_TIMED_OUT}


@dataclass(frozen=True)
class Postponed:
    """A case to be retried. `lasted_s`: how long its photograph has been inaccessible."""

    lease: Lease
    reason: Reason
    lasted_s: float = 0.0

    @property
    def counted(self) -> bool:
        """Whether it costs the case an attempt."""
        return self.reason is Reason.ANALYSIS_FAILED

    @property
    def has_timed_out(self) -> bool:
        """Whether the store did not return its photograph in time."""
        return self.reason is Reason.PHOTOGRAPH_TIMED_OUT

    @property
    def alone(self) -> bool:
        """Whether the case is retried alone: it may have caused the failure of the whole batch."""
        return self.lease.alone or self.reason in (Reason.DEVICE_LOST, Reason.ANALYSIS_FAILED)


Outcome = Finding | NoFinding | Postponed


def blame(lease: Lease) -> Outcome:
    """Count a failed attempt that the case itself may have caused; after the last one a human must look at the case."""
    if lease.attempt < MAX_ATTEMPTS:
        return Postponed(lease, Reason.ANALYSIS_FAILED)
    detail = f"The analysis failed {lease.attempt} times. A person must look at this case."
    return NoFinding(lease, Problem(State.FAILED, "analysis_failed", detail))


@dataclass(frozen=True)
class _Decoded:
    """`photograph` is RGB at overlay size; `pixels` is uint8 (side, side, 3)."""

    lease: Lease
    photograph: Image.Image
    pixels: np.ndarray
    warnings: tuple[str, ...]


class Analyst:
    """Analyses batches with one model at one operating point. Thread-safe.

    `device_lost`: the device can read nothing more, and the process must end. This counts as an attempt only for a case
    that was being tried alone; all others are first retried alone.
    """

    def __init__(self, model: Model, store: ObjectStore, operating_point: OperatingPoint, pool: ThreadPoolExecutor):
        self._model, self._store, self._point, self._pool = model, store, operating_point, pool
        self._large = Semaphore(_LARGE_AT_ONCE)
        self._photographs = PhotographStore(store)
        self.device_lost = False

    def analyze_batch(self, leases: Sequence[Lease]) -> list[Outcome]:
        """Return one outcome per lease. Each case fails or is postponed on its own; the others go on."""
        prepared = self._explain_timeouts(list(self._pool.map(self._settle(self._fetch_and_decode), leases)))
        decoded = [item for item in prepared if isinstance(item, _Decoded)]
        return [item for item in prepared if not isinstance(item, _Decoded)] + self._read_and_finish(decoded)

    def _explain_timeouts(self, prepared: list[Outcome | _Decoded]) -> list[Outcome | _Decoded]:
        """Find out why photographs timed out, if all that were asked for did: the store, the line to it, or they.

        All cases of an outage would seem inaccessible otherwise, and large photographs would keep each other from
        coming through a narrow line every time.
        """
        timed_out = [item for item in prepared if isinstance(item, Postponed) and item.has_timed_out]
        if not timed_out or any(isinstance(item, _Decoded) for item in prepared):
            return prepared
        others = [item for item in prepared if item not in timed_out]
        if self._photographs.answers():
            return others + (self._fetch_in_turn(timed_out) if len(timed_out) > 1 else timed_out)
        for item in timed_out:
            self._photographs.forget(item.lease.case_id)
        return others + [Postponed(item.lease, Reason.STORE_UNAVAILABLE) for item in timed_out]

    def _fetch_in_turn(self, timed_out: Sequence[Postponed]) -> list[Outcome | _Decoded]:
        """Fetch photographs one by one, each with the whole line to itself, as long as their leases allow."""
        until_s, again = time.monotonic() + _IN_TURN_S, self._settle(self._fetch_and_decode)
        return [again(item.lease) if time.monotonic() < until_s else item for item in timed_out]

    def _read_and_finish(self, decoded: Sequence[_Decoded]) -> list[Outcome]:
        if not decoded:
            return []
        try:
            forward = stage("forward", [item.lease for item in decoded])
            reading = self._model.read(np.stack([item.pixels for item in decoded]), forward)
        except Exception as error:  # on a dead device, every photograph raises something
            if not self._model.is_working():
                self.device_lost = True
                leases = [item.lease for item in decoded]
                return [blame(lease) if lease.alone else Postponed(lease, Reason.DEVICE_LOST) for lease in leases]
            if not isinstance(error, ModelUnusable):
                raise
            if len(decoded) == 1:
                return [NoFinding(decoded[0].lease, Problem(State.FAILED, error.code, error.detail))]
            # One photograph may have spoilt the batch: each is read separately, so that only that one fails.
            return [outcome for item in decoded for outcome in self._read_and_finish([item])]
        finish = self._settle(lambda item, position: self._finish(item, reading, position))
        return list(self._pool.map(finish, decoded, range(len(decoded))))

    def _settle(self, step: Callable) -> Callable:
        """Wrap a step so that an error that concerns only one case becomes its outcome."""

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
                # A store that does not take one overlay takes none: the photograph is not to blame.
                reason = _REASONS.get(type(error)) if isinstance(item, Lease) else None
                if reason is None:
                    return Postponed(lease, Reason.STORE_UNAVAILABLE)
                return Postponed(lease, reason, self._photographs.lasted_s(lease.case_id))

        return settled

    def _fetch_and_decode(self, lease: Lease) -> _Decoded:
        with stage("fetch", [lease]):
            data = self._photographs.fetch(lease)
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
