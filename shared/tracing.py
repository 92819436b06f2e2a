"""Traces from a request to the stored result: off unless OTEL_EXPORTER_OTLP_ENDPOINT says where to send them."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from shared.errors import ConfigurationInvalid
from shared.log_ids import make_traceparent

_spans = None
"""This process's `shared.telemetry.Spans`, if it traces."""


def start_tracing(service: str) -> None:
    """Start tracing if OTEL_EXPORTER_OTLP_ENDPOINT is set.

    Raises:
        ConfigurationInvalid: `traces_not_installed`.
    """
    global _spans
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    try:
        from shared.telemetry import Spans
    except ImportError as error:
        raise ConfigurationInvalid(
            "traces_not_installed", "OTEL_EXPORTER_OTLP_ENDPOINT is set: install `dermqueue[traces]`, or unset it."
        ) from error
    _spans = Spans(service)


def span(name: str) -> AbstractContextManager:
    """Return a context manager that records a span in this thread's trace."""
    return _spans.during(name) if _spans else nullcontext()


def add_spans(name: str, traceparents: Sequence[str | None], began_ns: int) -> None:
    """Add a span that ends now to each of these traces: work on a batch belongs to every case in it."""
    if _spans:
        for traceparent in filter(None, traceparents):
            _spans.until_now(name, traceparent, began_ns)


def current_traceparent() -> str | None:
    """Return the W3C trace context that travels with a case; its trace id is the request's id, traced or not."""
    return (_spans and _spans.traceparent()) or make_traceparent()
