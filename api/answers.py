"""What the routes share: parsing ids, and models as JSON."""

from uuid import UUID

from flask import Response
from pydantic import BaseModel

from shared.errors import NotFound

POLL_AFTER_S = 2
"""The `Retry-After` of whatever is not final yet."""


def answer(body: BaseModel, status: int) -> Response:
    """Return a model as JSON."""
    return Response(body.model_dump_json(), status, mimetype="application/json")


def parse_id(text: str, missing: NotFound) -> UUID:
    """Return the UUID that a client wrote.

    Raises:
        NotFound: `missing`; the text is no UUID, so it names nothing.
    """
    try:
        return UUID(text)
    except ValueError as error:
        raise missing from error


def parse_case_id(text: str) -> UUID:
    """Return a case's id: see `parse_id`.

    Raises:
        NotFound: `case_not_found`.
    """
    return parse_id(text, NotFound("case_not_found", "There is no such case."))
