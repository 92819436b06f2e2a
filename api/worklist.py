"""The route for the worklist: what reviewers should look at, most pressing first."""

from typing import Annotated
from uuid import UUID

from flask import Response
from pydantic import Field, TypeAdapter

from api.answers import answer
from api.auth import allow, caller
from api.blueprints import guarded_blueprint
from api.paging import link_to_next, read_cursor, write_cursor
from api.problems import problem_responses
from api.services import services
from api.worklist_schemas import (
    ClinicNameOut,
    ClinicNamesOut,
    Moment,
    WorklistCaseOut,
    WorklistOut,
    WorklistQuery,
)
from shared.database import read_clock
from shared.domain import Caller, Priority, Role, rank_for_review
from shared.store import access, cases, reviews, worklist

_PLACE = TypeAdapter(tuple[Annotated[float, Field(ge=-1, le=2)], Moment, UUID])

blueprint = guarded_blueprint("worklist", "/v1/worklist", "The cases to review, most pressing first.")


@blueprint.get("", responses={200: WorklistOut, **problem_responses(400)})
@allow(Role.REVIEWER)
def read_worklist(query: WorklistQuery) -> Response:
    """List cases for review: urgent ones first, then by melanoma probability, then by waiting time.

    A failed case ranks as if melanoma were certain, since nothing is known of it. The header `Link: <…>; rel="next"`
    names the next page.
    """
    page, following = list_page(caller(), query)
    response = answer(page, 200)
    link_to_next(response, "/v1/worklist", query, following)
    return response


@blueprint.get("/clinics", responses={200: ClinicNamesOut})
@allow(Role.REVIEWER)
def list_clinic_names() -> Response:
    """List the clinics, to filter the worklist by."""
    with services().database.reading() as session:
        names = [ClinicNameOut(id=row.id, name=row.name) for row in access.list_clinics(session)]
    return answer(ClinicNamesOut(clinics=names), 200)


def list_page(caller: Caller, query: WorklistQuery) -> tuple[WorklistOut, str | None]:
    """Return a page of the worklist and the cursor of the next one; audit what is shown."""
    wanted = _filter(query, read_cursor(query.cursor, _PLACE.validate_json))
    with services().database.reading() as session:
        found = worklist.list_worklist(session, wanted, query.limit + 1)
        page = found[: query.limit]
        count = worklist.count_worklist(session, wanted)
        opened = reviews.list_open(session, caller, [entry.case.id for entry in page], read_clock(session))
        names = {row.id: row.name for row in access.list_clinics(session)}
    services().reads.note([entry.case for entry in page], caller)
    shown = [
        WorklistCaseOut.in_list(entry, names[entry.case.clinic_id], opened.get(entry.case.id, [])) for entry in page
    ]
    following = write_cursor(_PLACE.dump_json(page[-1].place)) if len(found) > len(page) else None
    return WorklistOut(cases=shown, count=count), following


def find_urgent(query: WorklistQuery) -> UUID | None:
    """Return the first case to review that matches the query, if it is urgent."""
    if query.reviewed:
        return None
    with services().database.reading() as session:
        first = worklist.list_worklist(session, _filter(query, None), 1)
    return first[0].case.id if first and first[0].case.priority == Priority.URGENT else None


def find_following(caller: Caller, case_id: UUID, query: WorklistQuery) -> UUID | None:
    """Return the case after this one on the list that the query asks for, or None at its end.

    Raises:
        NotFound: `case_not_found`.
    """
    with services().database.reading() as session:
        case = cases.read_case(session, caller, case_id)
        probability = case.analysis.melanoma_probability if case.analysis else None
        rank = rank_for_review(int(case.priority == Priority.ROUTINE), probability)
        following = worklist.list_worklist(session, _filter(query, (rank, case.submitted_at, case.id)), 1)
    return following[0].case.id if following else None


def _filter(query: WorklistQuery, after: worklist.Place | None) -> worklist.WorklistFilter:
    return worklist.WorklistFilter(**query.model_dump(exclude={"limit", "cursor"}), after=after)
