"""Errors as clients see them: RFC 9457 problem+json. Status codes are assigned here only."""

import logging
from typing import NoReturn, TypeVar

from flask import Flask, Response, json
from gunicorn.http.errors import ParseException
from pydantic import BaseModel, Field, ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from api.counters import REFUSED
from shared.errors import (
    Conflict,
    DermQueueError,
    ImageRejected,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    RequestInvalid,
    TooMany,
    Unavailable,
)

RETRY_AFTER_S = {429: 30, 503: 5}

log = logging.getLogger(__name__)

Schema = TypeVar("Schema", bound=BaseModel)

_STATUS_OF_CODE = {
    "image_type_unsupported": 415,
    "content_type_unsupported": 415,
    "request_too_slow": 408,
    "upload_too_large": 413,
    "submission_too_large": 413,
    "idempotency_key_reused": 422,
    "upload_digest_mismatch": 422,
    "review_changed": 412,
    "precondition_missing": 428,
}
_STATUS_OF_KIND = {
    RequestInvalid: 400,
    NotAuthenticated: 401,
    NotAllowed: 403,
    NotFound: 404,
    Conflict: 409,
    ImageRejected: 422,
    TooMany: 429,
    Unavailable: 503,
}
_TYPICAL_CODES = {
    400: "field_invalid",
    401: "key_missing",
    403: "role_not_allowed",
    404: "case_not_found",
    408: "request_too_slow",
    409: "case_is_final",
    413: "upload_too_large",
    415: "image_type_unsupported",
    422: "image_too_small",
    429: "quota_exceeded",
    500: "object_missing",
    503: "storage_unavailable",
}
"""The examples in the OpenAPI document."""

_HEADERS = {
    401: {"WWW-Authenticate": "How to send a key."},
    **{status: {"Retry-After": "Seconds to wait before sending the request again."} for status in RETRY_AFTER_S},
}
"""The descriptions of headers in the OpenAPI document."""

_OWN_WORDS = {
    400: ("request_malformed", "The request could not be read. Check its headers and its body."),
    404: ("page_not_found", "There is nothing at this address. See /docs for the API."),
    405: ("method_not_allowed", "This address does not support this method. See /docs for the API."),
    413: ("upload_too_large", "The upload exceeds the size limit. Send a JPEG, or lower the camera's resolution."),
}


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable: match on it, not on `detail`."""

    type: str = Field(description="`urn:dermqueue:problem:` followed by the code")
    title: str
    status: int
    detail: str = Field(description="a sentence for a human")
    code: str


def problem_responses(*statuses: int, **of_code: int) -> dict[int, dict]:
    """Return OpenAPI problem responses for these statuses; `of_code` maps codes to show as examples to statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    examples = {status: _TYPICAL_CODES[status] for status in statuses} | {of_code[code]: code for code in of_code}
    return {
        status: (describe_headers(_HEADERS[status]) if status in _HEADERS else {})
        | {"content": {"application/problem+json": {"schema": schema, "example": _example(status, code)}}}
        for status, code in examples.items()
    }


def describe_headers(texts: dict[str, str]) -> dict:
    """Return the OpenAPI description of a response's headers, given what each says."""
    return {"headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in texts.items()}}


def _example(status: int, code: str) -> dict:
    return _problem(status, code, "What is wrong, and what to do about it.").model_dump()


def checked(schema: type[Schema], values: dict, **options: bool) -> Schema:
    """Validate these values by the schema; the options are those of pydantic's `model_validate`.

    Raises:
        RequestInvalid: see `raise_invalid_field`.
    """
    try:
        return schema.model_validate(values, **options)
    except ValidationError as error:
        raise_invalid_field(error)


def raise_invalid_field(error: ValidationError) -> NoReturn:
    """Turn pydantic's first error into one of ours.

    Raises:
        RequestInvalid: `field_unknown`, `field_missing` or `field_invalid`.
    """
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "request"
    if first["type"] == "extra_forbidden":
        raise RequestInvalid("field_unknown", f"The field {field!r} is unknown. See /docs for the fields.")
    if first["type"] == "missing":
        raise RequestInvalid("field_missing", f"The field {field!r} is required.")
    raise RequestInvalid("field_invalid", f"{field}: {first['msg'].removeprefix('Value error, ')}.")


def status_of(error: DermQueueError) -> int:
    """Return the HTTP status of an error."""
    of_kind = (status for kind, status in _STATUS_OF_KIND.items() if isinstance(error, kind))
    return _STATUS_OF_CODE.get(error.code) or next(of_kind, 500)


def register_problems(app: Flask) -> None:
    """Answer every error in the app with a problem."""

    @app.errorhandler(DermQueueError)
    def ours(error: DermQueueError) -> Response:
        status = status_of(error)
        if status >= 500:
            log.error("request_failed code=%s", error.code, exc_info=status == 500)
        return _answer(status, error.code, error.detail)

    @app.errorhandler(HTTPException)
    def werkzeugs(error: HTTPException) -> Response:
        status = error.code or 500
        if status < 400:
            return error.get_response()
        code, detail = _OWN_WORDS.get(status, (f"http_{status}", error.name))
        response = _answer(status, code, detail)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.allow.update(error.valid_methods)
        return response

    @app.errorhandler(ParseException)
    def gunicorns(_: ParseException) -> Response:
        """Answer a chunked body with a broken chunk: gunicorn finds it when the view reads the body."""
        return _answer(400, *_OWN_WORDS[400])

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.error("request_crashed", exc_info=error)
        return _answer(500, "internal_error", "Something went wrong on our side. You can send the request again.")


def _problem(status: int, code: str, detail: str) -> Problem:
    title = code.replace("_", " ").capitalize()
    return Problem(type=f"urn:dermqueue:problem:{code}", title=title, status=status, detail=detail, code=code)


def _answer(status: int, code: str, detail: str) -> Response:
    REFUSED.labels(code).inc()
    body = json.dumps(_problem(status, code, detail).model_dump())
    response = Response(body, status, mimetype="application/problem+json")
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="dermqueue"'
    if status in RETRY_AFTER_S:
        response.headers["Retry-After"] = str(RETRY_AFTER_S[status])
    return response
