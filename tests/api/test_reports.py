"""A case's result on one page of PDF."""

import re

import pytest

from tests.api.calls import read_problem

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
