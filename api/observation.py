"""Logs and counts every request: its id, duration and status."""

import logging
import re
import time
from contextlib import ExitStack
from uuid import UUID, uuid4

from flask import Flask, Response, g, request

from api.counters import REQUEST_SECONDS, REQUESTS
from shared.log_ids import logged_with
from shared.tracing import span

_ID_HEADER = "X-Request-Id"
_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_READING = {"GET", "HEAD", "OPTIONS"}
_METHODS = {*_READING, "POST", "PUT", "PATCH", "DELETE"}

log = logging.getLogger(__name__)


def register_observation(app: Flask) -> None:
    """Log and count every request by its route, never by its address, which contains ids and queries."""

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()
        g.request_id = read_request_id(request.headers.get(_ID_HEADER, ""))
        g.observed = ExitStack()
        g.observed.enter_context(logged_with(request_id=g.request_id))
        if request.method == "POST":
            g.observed.enter_context(span(f"POST {request.url_rule or 'none'}"))

    @app.after_request
    def end(response: Response) -> Response:
        seconds = time.perf_counter() - g.began
        route = request.url_rule.rule if request.url_rule else "none"
        method = request.method if request.method in _METHODS else "other"
        REQUEST_SECONDS.labels(method, route).observe(seconds)
        REQUESTS.labels(method, route, response.status_code).inc()
        response.headers[_ID_HEADER] = g.request_id
        # Polling would drown out the rest.
        level = logging.DEBUG if request.method in _READING and response.status_code < 500 else logging.INFO
        fields = method, route, response.status_code, f"{seconds:.3f}"
        log.log(level, "request_answered method=%s route=%s status=%s seconds=%s", *fields)
        return response

    @app.teardown_request
    def close(_) -> None:
        g.pop("observed", ExitStack()).close()  # missing if the request ended before `begin`


def read_request_id(sent: str) -> str:
    """Return the proxy's id or a new one, as 32 hexadecimal digits. Only UUIDs are accepted: they carry no text."""
    return (UUID(sent) if _UUID.fullmatch(sent) else uuid4()).hex
