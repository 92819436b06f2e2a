"""A case's result on one page of PDF."""

import re

import pytest
from click.testing import CliRunner
from reportlab.pdfbase.pdfmetrics import getFont, stringWidth

from api import reports
from api.words import COVERAGE
from deploy.cli import main
from tests.api.calls import read_problem
from tests.servers.serving import serving_app

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize("reference", ["mole-17", "Лезия 病变", "long " * 40])
def test_a_result_is_one_page_with_two_pictures_and_comes_as_a_file(clinic, succeed, reference):
    case_id = clinic.submit(reference=reference).json["id"]
    succeed(case_id)
    report = clinic.get(f"/v1/cases/{case_id}/report")
    assert (report.status_code, report.mimetype) == (200, "application/pdf")
    assert report.data.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", report.data)) == 1
    assert len(re.findall(rb"/Subtype /Image\b", report.data)) == 2
    assert len(report.data) < 200_000
    assert report.headers["Content-Disposition"] == f'attachment; filename="dermqueue-{case_id}.pdf"'
    assert report.headers["Cache-Control"] == "private, no-store"


def test_a_report_is_audited_and_there_is_none_without_a_result(clinic, succeed, rows):
    case_id = clinic.submit().json["id"]
    assert read_problem(clinic.get(f"/v1/cases/{case_id}/report"), 404)["code"] == "report_not_ready"
    succeed(case_id)
    clinic.get(f"/v1/cases/{case_id}/report")
    assert rows("audit_events")[-1].action == "report.read"


def test_each_picture_says_what_it_is_and_warnings_come_before_the_pictures(clinic, succeed, monkeypatch):
    lines = []
    monkeypatch.setattr(reports.Canvas, "drawString", lambda canvas, x, y, line: lines.append((y, line)))
    case_id = clinic.submit().json["id"]
    succeed(case_id)
    clinic.get(f"/v1/cases/{case_id}/report")
    place = {line: y for y, line in lines}
    assert place["Photograph"] == place["Heatmap of melanoma: what influenced the model"]
    assert place["Photograph small."] > place["Photograph"]


@pytest.fixture
def drawn(monkeypatch) -> list[str]:
    """What a report says, in the order in which it is drawn."""
    said, draw = [], reports._draw_text
    monkeypatch.setattr(reports, "_draw_text", lambda *given, **more: said.append(given[1]) or draw(*given, **more))
    return said


@pytest.mark.parametrize(
    "reference", ["DERM_2026-01-31_left-calf_series-0004_exposure-2_" * 4, "W" * 200, "long " * 40]
)
def test_a_reference_without_spaces_is_broken_where_the_page_ends_and_none_of_it_is_lost(
    clinic, succeed, monkeypatch, reference
):
    lines, draw = [], reports.Canvas.drawString

    def draw_and_measure(canvas, x: float, y: float, line: str) -> None:
        lines.append(line)
        assert x + stringWidth(line, canvas._fontname, canvas._fontsize) <= reports._RIGHT
        assert y > 0
        draw(canvas, x, y, line)

    monkeypatch.setattr(reports.Canvas, "drawString", draw_and_measure)
    case_id = clinic.submit(reference=reference).json["id"]
    succeed(case_id)
    assert clinic.get(f"/v1/cases/{case_id}/report").status_code == 200
    assert reference.replace(" ", "") in "".join(lines).replace(" ", "")


@pytest.mark.parametrize(
    ("plausible", "words"),
    [
        (("nevus",), "Of the model’s three diagnoses, only nevus is plausible."),
        (
            ("melanoma", "seborrheic_keratosis"),
            "Uncertain: of the model’s three diagnoses, melanoma and seborrheic keratosis are plausible.",
        ),
        (None, None),
    ],
)
def test_a_report_says_which_diagnoses_are_plausible_and_that_the_model_knows_no_others(
    clinic, succeed, drawn, plausible, words
):
    case_id = clinic.submit().json["id"]
    succeed(case_id, plausible=plausible)
    assert clinic.get(f"/v1/cases/{case_id}/report").status_code == 200
    said = [text for text in drawn if "lausible" in text]
    assert [text.removesuffix(f" {COVERAGE}") for text in said] == ([words] if words else [])
    assert "one of its three diagnoses to every lesion, even to a carcinoma." in drawn[-1]


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("text", ["Łódź, Győr, Iași", "Αθήνα", "Київ, София", "“routine” – 7 %"])
def test_both_fonts_have_the_letters_of_a_clinics_language(text):
    for font in (reports._PLAIN, reports._BOLD):
        assert {ord(letter) for letter in text} <= getFont(font).face.charToGlyph.keys()


def test_the_command_line_writes_a_report_to_a_file_and_says_why_there_is_none(app, clinic, succeed, tmp_path):
    case_id, out = clinic.submit().json["id"], tmp_path / "report.pdf"
    with serving_app(app) as url:
        ask = ["report", case_id, "--url", url, "--key", clinic.key, "--out", str(out)]
        early = CliRunner().invoke(main, ask)
        succeed(case_id)
        done = CliRunner().invoke(main, ask)
    assert early.exit_code == 1
    assert "there is no result to report. [report_not_ready]" in early.stderr
    assert (done.exit_code, done.stdout.strip()) == (0, str(out))
    assert out.read_bytes().startswith(b"%PDF-")
