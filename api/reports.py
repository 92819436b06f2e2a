"""The route for a case's report: one page to print, or to put into a patient's file."""

import io
from collections.abc import Iterator

from flask import Response
from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader, simpleSplit
from reportlab.pdfbase.pdfmetrics import registerFont, stringWidth
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from ttf_opensans import OPENSANS_BOLD, OPENSANS_REGULAR

from api.answers import parse_case_id
from api.auth import allow
from api.blueprints import guarded_blueprint
from api.pictures import decode_stored, read_audited, read_drawing
from api.problems import problem_responses
from api.schemas import CasePath
from api.words import COVERAGE, moment, percent, say_class, say_plausible, say_warning, tell_apart
from shared.domain import CLASSES, EVIDENCE, NO_ALL_CLEAR, NOTICE, Case, Role
from shared.errors import NotFound
from shared.heatmap import OVERLAY_CLASS, OVERLAY_SIDE

blueprint = guarded_blueprint("reports", "/v1/cases", "A case's result on one page.")

_PDF = {"content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}}}}
_LEFT, _RIGHT, _TOP, _BOTTOM = 20 * mm, A4[0] - 20 * mm, A4[1] - 25 * mm, 15 * mm
_PICTURE_SIDE, _GAP, _LINE = 82 * mm, 6 * mm, 5.5 * mm
_BAR_LEFT, _BAR_WIDTH, _BAR_HEIGHT = 70 * mm, 95 * mm, 4 * mm
_PLAIN, _BOLD = "OpenSans", "OpenSans-Bold"

for _name, _font in ((_PLAIN, OPENSANS_REGULAR), (_BOLD, OPENSANS_BOLD)):
    registerFont(TTFont(_name, _font.path))


@blueprint.get("/<case_id>/report", responses={200: _PDF, **problem_responses(500, report_not_ready=404)})
@allow(Role.CLINIC, Role.REVIEWER)
def read_report(path: CasePath) -> Response:
    """Fetch a case's result as a one-page PDF.

    It shows the photograph and heatmap, the probabilities with the operating point, the model, and caveats.
    """
    case = read_audited(parse_case_id(path.case_id), "report.read")
    if case.analysis is None:
        raise NotFound("report_not_ready", f"This case is {case.state}: there is no result to report.")
    photograph = decode_stored(case, OVERLAY_SIDE)
    photograph.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE))
    overlay = Image.open(io.BytesIO(read_drawing(case, "overlay", OVERLAY_CLASS)))
    name = f'attachment; filename="dermqueue-{case.id}.pdf"'  # our policy keeps browsers from displaying a PDF
    headers = {"Cache-Control": "private, no-store", "Content-Disposition": name}
    return Response(draw_report(case, photograph, overlay), mimetype="application/pdf", headers=headers)


def draw_report(case: Case, photograph: Image.Image, overlay: Image.Image) -> bytes:
    """Return one page of A4. The font has Latin, Greek and Cyrillic letters; others become empty boxes."""
    file = io.BytesIO()
    canvas = Canvas(file, A4)
    canvas.setTitle(f"DermQueue case {case.id}")
    y = _draw_heading(canvas, case)
    y = _draw_pictures(canvas, photograph, overlay, y)
    y = _draw_probabilities(canvas, case, y)
    for text in _facts(case):
        y = _draw_text(canvas, text, y)
    footing = (
        f"{EVIDENCE} The model assigns one of its three diagnoses to every lesion, even to a carcinoma. The heatmap"
        " shows what influenced the model, not where a lesion is malignant."
    )
    _draw_text(canvas, footing, _BOTTOM, size=8)
    canvas.save()
    return file.getvalue()


def _draw_heading(canvas: Canvas, case: Case) -> float:
    y = _draw_text(canvas, f"Case {case.reference or case.id}", _TOP, _BOLD, 15)
    y = _draw_text(canvas, f"{NOTICE} {NO_ALL_CLEAR}", y - 1 * mm, _BOLD, 10)
    y = _draw_text(canvas, f"Suggestion: {case.analysis.decision.upper()}", y, _BOLD, 12)
    for warning in case.analysis.warnings:
        y = _draw_text(canvas, say_warning(warning), y, _BOLD)
    return y


def _draw_pictures(canvas: Canvas, photograph: Image.Image, overlay: Image.Image, y: float) -> float:
    factor = _PICTURE_SIDE / max(photograph.size)
    width, height = photograph.width * factor, photograph.height * factor
    captions = "Photograph", f"Heatmap of {say_class(OVERLAY_CLASS).lower()}: what influenced the model"
    canvas.setFont(_PLAIN, 8)
    for column, (picture, caption) in enumerate(zip((photograph, overlay), captions, strict=True)):
        x = _LEFT + column * (_PICTURE_SIDE + _GAP)
        canvas.drawImage(_compressed(picture), x, y - height, width, height)
        canvas.drawString(x, y - height - 4 * mm, caption)
    return y - height - 2.5 * _LINE


def _compressed(picture: Image.Image) -> ImageReader:
    """Return a picture as JPEG, which is embedded as it is: a tenth of the bytes."""
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=88)
    return ImageReader(file)


def _draw_probabilities(canvas: Canvas, case: Case, y: float) -> float:
    point = case.analysis.operating_point
    shown, threshold = tell_apart(case.analysis.melanoma_probability, point.threshold)
    for name, probability in zip(CLASSES, case.analysis.probabilities, strict=True):
        number = shown if name == OVERLAY_CLASS else percent(probability)
        _draw_text(canvas, f"{say_class(name)}: {number}", y)
        canvas.setFillGray(0.88)
        canvas.rect(_BAR_LEFT, y, _BAR_WIDTH, _BAR_HEIGHT, stroke=0, fill=1)
        canvas.setFillGray(0.35)
        canvas.rect(_BAR_LEFT, y, _BAR_WIDTH * probability, _BAR_HEIGHT, stroke=0, fill=1)
        canvas.setFillGray(0)
        if name == OVERLAY_CLASS:
            x = _BAR_LEFT + _BAR_WIDTH * point.threshold
            canvas.setLineWidth(2)
            canvas.line(x, y - 1 * mm, x, y + _BAR_HEIGHT + 1 * mm)
        y -= 1.6 * _LINE
    text = (
        f"The line is the operating point “{point.name}”: refer at a melanoma probability of {threshold} or more. On"
        f" the model card’s images, its sensitivity for melanoma was {percent(point.sensitivity)} and its specificity"
        f" {percent(point.specificity)}."
    )
    y = _draw_text(canvas, text, y)
    if case.analysis.plausible:
        y = _draw_text(canvas, f"{say_plausible(case.analysis.plausible)} {COVERAGE}", y)
    return y - _LINE / 2


def _facts(case: Case) -> Iterator[str]:
    said = {"Age": case.age, "Sex": case.sex, "Site": case.site}
    yield ", ".join(f"{name}: {value}" for name, value in said.items() if value is not None)
    yield f"Sent {moment(case.submitted_at)} UTC, analysed {moment(case.finished_at)} UTC"
    yield f"Model {case.model_name} {case.model_version}, digest {case.analysis.model_digest[:16]}"
    yield f"ID {case.id}"


def _draw_text(canvas: Canvas, text: str, y: float, font: str = _PLAIN, size: float = 10) -> float:
    """Write lines from y downwards; return the next line's y."""
    canvas.setFont(font, size)
    for line in _break_lines(text, font, size):
        canvas.drawString(_LEFT, y, line)
        y -= size * 1.5
    return y


def _break_lines(text: str, font: str, size: float) -> Iterator[str]:
    """Yield lines that fit; a word wider than the text block, such as a file name, is broken anywhere."""
    for line in simpleSplit(text, font, size, _RIGHT - _LEFT):
        rest = line
        while rest:
            fitting = len(rest)
            while stringWidth(rest[:fitting], font, size) > _RIGHT - _LEFT:
                fitting -= 1
            yield rest[:fitting]
            rest = rest[fitting:]
