"""A clinic's pages: send photographs, follow their cases, cancel and erase them."""

import secrets
from uuid import UUID

from flask import Response, g, redirect, request, url_for

from api import cases, submissions
from api.auth import allow, caller
from api.bodies import reads_body
from api.intake import submit_photograph
from api.pages.frame import checks_form, guarded_pages, name_clinics, read_query, show, wants_json, word_problems_by
from api.problems import checked
from api.schemas import CasePath, ListQuery, ReadHeader, SubmitForm, SubmitHeader
from api.services import services
from api.submission_schemas import SubmissionForm, SubmissionPath
from shared.domain import Case, Role, Sex, State

clinic = guarded_pages("clinic")


@clinic.get("/cases")
@allow(Role.CLINIC, Role.REVIEWER)
def list_cases() -> Response:
    query = read_query(ListQuery)
    page, following = cases.list_page(caller(), query)
    shown = page.model_dump(mode="json")["cases"]
    return show(
        "cases.html",
        cases=shown,
        clinics=name_clinics([case["id"] for case in shown]),
        query=query,
        states=list(State),
        following=following,
    )


@clinic.get("/submit")
@allow(Role.CLINIC)
def show_submit() -> Response:
    return show("submit.html", **_of_submit_page())


@clinic.get("/submissions")
@allow(Role.CLINIC)
def show_again() -> Response:
    """Lead from the address of a page that answered a form, as after a reload, to the form's own."""
    return redirect(url_for("pages.clinic.show_submit"), 303)


@clinic.post("/submissions")
@allow(Role.CLINIC)
@submissions.takes_much
@checks_form
def send_many() -> Response:
    word_problems_by("submit.html", **_of_submit_page(), sent=request.form.to_dict())
    submission_id = _take_in()
    if wants_json():
        return submissions.read_submission(path=SubmissionPath(submission_id=str(submission_id)))
    return redirect(url_for("pages.clinic.show_submission", submission_id=submission_id), 303)


@reads_body(form=SubmissionForm, check_names=submissions.check_names)
def _take_in(sent: SubmissionForm) -> UUID:
    return submissions.take_in(services(), caller(), sent, _header().idempotency_key)


@clinic.get("/submissions/<submission_id>")
@allow(Role.CLINIC)
def show_submission(submission_id: str) -> Response:
    found = submissions.read_submission(path=SubmissionPath(submission_id=submission_id))
    return show("submission.html", submission=found.get_json())


@clinic.post("/cases")
@allow(Role.CLINIC)
def send_one() -> Response:
    word_problems_by("submit.html", **_of_submit_page(), sent=request.form.to_dict())
    return _go_to_case(str(_submit().id))


@reads_body(form=SubmitForm, check_names=cases.check_names)
def _submit(sent: SubmitForm) -> Case:
    return submit_photograph(services(), caller(), sent, _header().idempotency_key)


@clinic.post("/cases/<case_id>/cancel")
@allow(Role.CLINIC)
def cancel(case_id: str) -> Response:
    cases.cancel_case(path=CasePath(case_id=case_id))
    return _go_to_case(case_id)


@clinic.get("/cases/<case_id>/erase")
@allow(Role.CLINIC)
def confirm_erasure(case_id: str) -> Response:
    return show("erase.html", case=cases.read_case(path=CasePath(case_id=case_id), header=ReadHeader()).get_json())


@clinic.post("/cases/<case_id>/erase")
@allow(Role.CLINIC)
def erase(case_id: str) -> Response:
    cases.delete_case(path=CasePath(case_id=case_id))
    return redirect(url_for("pages.clinic.list_cases"), 303)


def _go_to_case(case_id: str) -> Response:
    return redirect(url_for("pages.case.show_case", case_id=case_id), 303)


def _header() -> SubmitHeader:
    return checked(SubmitHeader, {"Idempotency-Key": g.idempotency_key})


def _of_submit_page() -> dict:
    return {
        "sexes": list(Sex),
        "idempotency_key": secrets.token_urlsafe(16),
        "most": submissions.MAX_PHOTOGRAPHS,
        "max_bytes": services().settings.max_upload_bytes,
    }
