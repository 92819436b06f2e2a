"""A case's page for its clinic and for reviewers, with its pictures and report, and the page of the model."""

from flask import Response, request, url_for

from api import cases, pictures, reports, service
from api.answers import parse_case_id
from api.auth import allow, caller
from api.pages.frame import guarded_pages, in_background, name_clinics, read_query, show
from api.schemas import CasePath, HeatmapQuery, ReadHeader
from api.thumbnails import THUMBNAIL_SIDE
from shared.domain import Role

case = guarded_pages("case")


@case.get("/cases/<case_id>")
@allow(Role.CLINIC, Role.REVIEWER)
def show_case(case_id: str) -> Response:
    query = read_query(HeatmapQuery)
    found = cases.read_case(path=CasePath(case_id=case_id), header=ReadHeader()).get_json()
    here = url_for("pages.case.show_case", case_id=case_id)
    return show(
        "case.html", case=found, shown_class=query.class_, here=here, clinic=name_clinics([case_id]).get(case_id)
    )


@case.get("/cases/<case_id>/photograph")
@allow(Role.CLINIC, Role.REVIEWER)
def show_photograph(case_id: str) -> Response:
    return pictures.read_image(path=CasePath(case_id=case_id))


@case.get("/cases/<case_id>/heatmap")
@allow(Role.CLINIC, Role.REVIEWER)
def show_heatmap(case_id: str) -> Response:
    return pictures.read_heatmap(path=CasePath(case_id=case_id), query=read_query(HeatmapQuery))


@case.get("/cases/<case_id>/report.pdf")
@allow(Role.CLINIC, Role.REVIEWER)
def show_report(case_id: str) -> Response:
    return reports.read_report(path=CasePath(case_id=case_id))


@case.get("/cases/<case_id>/thumbnail")
@allow(Role.CLINIC, Role.REVIEWER)
@in_background
def show_thumbnail(case_id: str) -> Response:
    """Send a small photograph, which a browser caches but must revalidate each time it shows it.

    Each key has its own ETag: what a browser kept of another key is sent again, and audited.
    """
    found = cases.find_case(parse_case_id(case_id))
    response = Response(headers={"Cache-Control": "private, no-cache"}, mimetype="image/jpeg")
    response.set_etag(f"{found.photograph.sha256}-{THUMBNAIL_SIDE}-{caller().key_id}")
    if request.if_none_match.contains(response.get_etag()[0]):
        return response.make_conditional(request)
    response.set_data(pictures.read_thumbnail(found))
    pictures.read_audited(found.id, "image.read")  # last: it may have been refused, or erased meanwhile
    return response


@case.get("/model")
@allow(*Role)
def show_model() -> Response:
    return show("model.html", model=service.read_current_model().get_json())
