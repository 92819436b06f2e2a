"""A reviewer's pages: the worklist, and its cases one after another."""

import re
from datetime import UTC, date, datetime, time, timedelta

from flask import Response, redirect, request, url_for

from api import cases, reviews, worklist
from api.answers import parse_case_id
from api.auth import allow, caller
from api.pages.frame import guarded_pages, name_clinics, show, word_problems_by
from api.problems import checked
from api.schemas import CasePath, HeatmapQuery, ReadHeader
from api.worklist_schemas import ReviewIn, WorklistQuery
from shared.domain import REVIEW_LABELS, Decision, Priority, Role
from shared.errors import RequestInvalid
from shared.store.worklist import COUNTED_AT_MOST

_FILTERS = ("reviewed", "state", "clinic_id", "decision", "sent_from", "sent_until")
_PAGE_LENGTH = 24

reviewer = guarded_pages("reviewer")


@reviewer.get("/worklist")
@allow(Role.REVIEWER)
def list_work() -> Response:
    page, following = worklist.list_page(caller(), _read_query())
    return show(
        "worklist.html",
        work=page.model_dump(mode="json"),
        most=COUNTED_AT_MOST,
        clinics=worklist.list_clinic_names().get_json()["clinics"],
        decisions=list(Decision),
        filters=_filters(),
        following=following,
    )


@reviewer.get("/worklist/<case_id>")
@allow(Role.REVIEWER)
def show_work(case_id: str) -> Response:
    return show("review.html", **_of_case(case_id))


@reviewer.get("/worklist/<case_id>/next")
@allow(Role.REVIEWER)
def go_on(case_id: str) -> Response:
    """Go to the next case on the worklist, or at its end back to the list."""
    following = worklist.find_following(caller(), parse_case_id(case_id), _read_query())
    if following is None:
        return redirect(url_for("pages.reviewer.list_work", **_filters()), 303)
    return redirect(url_for("pages.reviewer.show_work", case_id=following, **_filters()), 303)


@reviewer.get("/worklist/<case_id>/review")
@allow(Role.REVIEWER)
def show_again(case_id: str) -> Response:
    """Lead from the address of a page that answered a form, as after a reload, to the case's own."""
    return redirect(url_for("pages.reviewer.show_work", case_id=case_id, **_filters()), 303)


@reviewer.post("/worklist/<case_id>/review")
@allow(Role.REVIEWER)
def review(case_id: str) -> Response:
    word_problems_by("review.html", **_of_case(case_id), sent=request.form)
    sent = request.form.to_dict()
    version = sent.pop("version", "")
    if not re.fullmatch("[0-9]{1,9}", version):  # as in `ReviewHeader`
        raise RequestInvalid("precondition_malformed", "The form lacks the review's version. Reload the page.")
    if "note" in sent:
        sent["note"] = sent["note"].replace("\r\n", "\n")  # as forms send lines
    said = checked(ReviewIn, sent, strict=False)
    reviews.save_review(caller(), parse_case_id(case_id), said, int(version))
    return redirect(url_for("pages.reviewer.go_on", case_id=case_id, **_filters()), 303)


def _of_case(case_id: str) -> dict:
    path = CasePath(case_id=case_id)
    filters, found = _filters(), reviews.read_review(path=path)
    case = cases.read_case(path=path, header=ReadHeader()).get_json()
    return {
        "case": case,
        "reviews": found.get_json(),
        "version": found.get_etag()[0],
        "open_with": reviews.open_case(path=path).get_json()["open_with"],
        "labels": REVIEW_LABELS,
        "shown_class": _shown_class(),
        "filters": filters,
        "here": url_for("pages.reviewer.show_work", case_id=case_id, **filters),
        "clinic": name_clinics([case_id]).get(case_id),
        "more_urgent": None if case["priority"] == Priority.URGENT else worklist.find_urgent(_read_query()),
    }


def _shown_class() -> str:
    return checked(HeatmapQuery, {"class": request.args.get("class", "melanoma")}).class_


def _filters() -> dict[str, str]:
    return {name: request.args[name] for name in _FILTERS if request.args.get(name)}


def _read_query() -> WorklistQuery:
    """Return the filters as the API takes them: UTC days, both inclusive, become moments."""
    asked = _filters() | {name: request.args[name] for name in ("cursor",) if name in request.args}
    sent_from, sent_until = asked.pop("sent_from", None), asked.pop("sent_until", None)
    if sent_from:
        asked["submitted_from"] = _begin_of(sent_from)
    if sent_until:
        asked["submitted_before"] = _begin_of(sent_until, timedelta(days=1))
    return checked(WorklistQuery, asked | {"limit": _PAGE_LENGTH})


def _begin_of(day: str, later: timedelta = timedelta()) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(day), time(), UTC) + later
    except (ValueError, OverflowError) as error:
        raise RequestInvalid(
            "field_invalid", "A date must look like 2026-01-31 and be no later than 9999-12-30."
        ) from error
