"""What is noted of every request: its id, its time, its answer."""

import time

from flask import Flask, Response, g, request

from api.counters import REQUEST_SECONDS, REQUESTS

_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}


def register_observation(app: Flask) -> None:
    """Observe every request of the app. Labels are routes, never addresses: those hold ids, and have no end."""

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        method = request.method if request.method in _METHODS else "other"
        REQUEST_SECONDS.labels(method, route).observe(time.perf_counter() - g.began)
        REQUESTS.labels(method, route, response.status_code).inc()
        return response
