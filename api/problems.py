"""Errors as clients see them: RFC 9457 problem+json. The only place that knows status codes."""

import logging

from flask import Flask, Response, json
from pydantic import BaseModel, Field, ValidationError
from werkzeug.exceptions import HTTPException

from shared.errors import (
    Conflict,
    DermQueueError,
    ImageRejected,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    RequestInvalid,
    Unavailable,
)

RETRY_AFTER_S = 5

log = logging.getLogger(__name__)

_STATUS_OF_CODE = {
    "image_type_unsupported": 415,
    "content_type_unsupported": 415,
    "upload_too_large": 413,
    "idempotency_key_reused": 422,
}
_STATUS_OF_KIND = {
    RequestInvalid: 400,
    NotAuthenticated: 401,
    NotAllowed: 403,
    NotFound: 404,
    Conflict: 409,
    ImageRejected: 422,
    Unavailable: 503,
}
_OWN_WORDS = {
    400: ("request_malformed", "The request could not be read. Check its headers and its body."),
    404: ("page_not_found", "There is nothing at this address. The interface is described at /docs."),
    405: ("method_not_allowed", "This address does not take this method. The interface is described at /docs."),
    413: ("upload_too_large", "The upload is over the size limit. Send a JPEG, or lower the camera's resolution."),
}


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable: match on it, not on the sentence."""

    type: str = Field(examples=["urn:dermqueue:problem:case_not_found"])
    title: str
    status: int
    detail: str
    code: str


def problem_responses(*statuses: int) -> dict[int, dict]:
    """Return these statuses as OpenAPI responses that hold a problem."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {status: {"content": {"application/problem+json": {"schema": schema}}} for status in statuses}


def raise_invalid_field(error: ValidationError) -> None:
    """Turn pydantic's first complaint into ours."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "request"
    if first["type"] == "extra_forbidden":
        raise RequestInvalid("field_unknown", f"There is no field named {field!r} here. See /docs for the fields.")
    if first["type"] == "missing":
        raise RequestInvalid("field_missing", f"The field {field!r} is required.")
    raise RequestInvalid("field_invalid", f"{field}: {first['msg'].removeprefix('Value error, ')}.")


def register_problems(app: Flask) -> None:
    """Answer every error of the app with a problem."""

    @app.errorhandler(DermQueueError)
    def ours(error: DermQueueError) -> Response:
        status = _STATUS_OF_CODE.get(error.code) or next(
            (status for kind, status in _STATUS_OF_KIND.items() if isinstance(error, kind)), 500
        )
        if status >= 500:
            log.error("request_failed code=%s", error.code, exc_info=status == 500)
        return _answer(status, error.code, error.detail)

    @app.errorhandler(HTTPException)
    def werkzeugs(error: HTTPException) -> Response:
        status = error.code or 500
        if status < 400:
            return error.get_response()
        code, detail = _OWN_WORDS.get(status, (f"http_{status}", error.name))
        return _answer(status, code, detail)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.error("request_crashed", exc_info=error)
        return _answer(500, "internal_error", "Something went wrong on our side. The request can be sent again.")


def _answer(status: int, code: str, detail: str) -> Response:
    titles = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden"}
    problem = Problem(
        type=f"urn:dermqueue:problem:{code}",
        title=titles.get(status, code.replace("_", " ").capitalize()),
        status=status,
        detail=detail,
        code=code,
    )
    response = Response(json.dumps(problem.model_dump()), status, mimetype="application/problem+json")
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="dermqueue"'
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status == 413:
        response.headers["Connection"] = "close"
    return response
