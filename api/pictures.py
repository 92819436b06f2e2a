"""The routes for a case's pictures: the photograph, and the heatmap of every class in every style."""

import io
from contextlib import suppress
from uuid import UUID

import numpy as np
from flask import Response
from PIL import Image

from api.answers import parse_case_id
from api.auth import allow, caller
from api.blueprints import guarded_blueprint
from api.problems import problem_responses
from api.schemas import CasePath, HeatmapQuery
from api.services import seated, services
from api.thumbnails import THUMBNAIL_SIDE, draw_thumbnail
from shared.domain import CLASSES, ActivationMaps, Case, Role
from shared.errors import NotFound, ObjectMissing, Unavailable
from shared.heatmap import (
    OVERLAY_CLASS,
    OVERLAY_SIDE,
    draw_heatmap,
    draw_overlay,
    encode_png,
    fit_overlay,
    overlay_as_png,
    scale_to_saliency,
)
from shared.photograph import decode_photograph
from shared.store import cases, trail

blueprint = guarded_blueprint("pictures", "/v1/cases", "A case's photograph and heatmaps. Every read is audited.")

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PICTURE = {"content": {"image/png": _BINARY, "image/jpeg": _BINARY, "image/webp": _BINARY}}
_HEATMAP = {"content": {"image/png": _BINARY, "application/octet-stream": _BINARY}}


@blueprint.get("/<case_id>/image", responses={200: _PICTURE, **problem_responses(404, 500)})
@allow(Role.CLINIC, Role.REVIEWER)
def read_image(path: CasePath) -> Response:
    """Fetch the photograph.

    Its pixels are exactly as sent; location, camera and other metadata have been removed.
    """
    case = read_audited(parse_case_id(path.case_id), "image.read")
    return _private(services().store.get(case.photograph.key), case.photograph.media_type)


@blueprint.get("/<case_id>/heatmap", responses={200: _HEATMAP, **problem_responses(400, 404, 500)})
@allow(Role.CLINIC, Role.REVIEWER)
def read_heatmap(path: CasePath, query: HeatmapQuery) -> Response:
    """Fetch one class's heatmap.

    Grad-CAM drawn on the photograph, alone, or as raw numbers. It shows what influenced the model, not where a lesion
    is malignant.
    """
    case = read_audited(parse_case_id(path.case_id), "heatmap.read")
    if case.analysis is None:
        raise NotFound("heatmap_not_ready", f"This case is {case.state}: there is no heatmap of it.")
    if query.style == "raw":
        return _private(_encode_npy(_read_map(case.id, query.class_)[0]), "application/octet-stream")
    return _private(read_drawing(case, query.style, query.class_), "image/png")


def read_drawing(case: Case, style: str, class_name: str) -> bytes:
    """Return a PNG: the overlay that a worker has stored, or one drawn now from the row."""
    if style == "overlay" and class_name == OVERLAY_CLASS:
        with suppress(ObjectMissing):
            return overlay_as_png(services().store.get(case.analysis.overlay_key))
    activation_map, scale = _read_map(case.id, class_name)
    return _draw(case, scale_to_saliency(activation_map, scale), style)


def read_audited(case_id: UUID, action: str) -> Case:
    """Return a case that this caller may see, and audit what they do with it."""
    with trail.audited(services().database, caller(), action, case_id) as (session, _):
        return cases.read_case(session, caller(), case_id)


def decode_stored(case: Case, min_side: int) -> Image.Image:
    """Return a case's photograph as `decode_photograph` does. Only a limited number are in memory at a time.

    Raises:
        Unavailable: `pictures_busy`.
    """
    with seated(services().picture_seats, _busy()):
        return decode_photograph(services().store.get(case.photograph.key), min_side)


def read_thumbnail(case: Case) -> bytes:
    """Return a small photograph, drawn unless it was lately. It is the caller who checks that it may be seen.

    Raises:
        Unavailable: `pictures_busy`, at once if too many threads draw such ones or wait to.
    """
    key, drawn = case.photograph.key, services().thumbnails
    if thumbnail := drawn.get(key):
        return thumbnail
    with seated(services().thumbnail_seats, _busy(), waits=False), seated(services().picture_seats, _busy()):
        thumbnail = drawn.get(key)  # perhaps somebody else has drawn it meanwhile
        if thumbnail is None:
            thumbnail = draw_thumbnail(decode_photograph(services().store.get(key), THUMBNAIL_SIDE))
            drawn.keep(key, thumbnail)
    return thumbnail


def _busy() -> Unavailable:
    return Unavailable("pictures_busy", "Too many pictures are being drawn at the moment. Ask again.")


def _read_map(case_id: UUID, class_name: str) -> tuple[np.ndarray, float]:
    """Return the raw map, float32 (h, w), and the value drawn at full strength."""
    with services().database.reading() as session:
        stored, manifest = cases.read_activation_maps(session, case_id)
    position = CLASSES.index(class_name)
    return _to_array(stored)[position], manifest["heatmap_scales"][position]


def _to_array(stored: ActivationMaps) -> np.ndarray:
    return np.frombuffer(stored.values, "<f4").reshape(len(CLASSES), stored.height, stored.width)


def _draw(case: Case, saliency: np.ndarray, style: str) -> bytes:
    if style == "heatmap":
        return encode_png(draw_heatmap(saliency, fit_overlay((case.photograph.width, case.photograph.height))))
    photograph = decode_stored(case, OVERLAY_SIDE)
    # Bicubic takes half as long again, for a mean difference below half a level of 255 (four photographs).
    small = photograph.resize(fit_overlay(photograph.size), Image.Resampling.BILINEAR)
    return encode_png(draw_overlay(small, saliency))


def _encode_npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _private(data: bytes, media_type: str) -> Response:
    return Response(data, mimetype=media_type, headers={"Cache-Control": "private, no-store"})
