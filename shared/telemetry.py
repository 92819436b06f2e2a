"""OpenTelemetry spans; imported only where tracing is on and the extra `traces` is installed."""

import time
from contextlib import AbstractContextManager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.log_ids import logged_ids

_PROPAGATOR = TraceContextTextMapPropagator()


class Spans:
    """Makes spans and sends them to OTEL_EXPORTER_OTLP_ENDPOINT in the background.

    If the collector is away, they are lost and work goes on. Spans hold only names and times: an error's text could
    hold a clinic's data.
    """

    def __init__(self, service: str):
        provider = TracerProvider(resource=Resource.create({"service.name": service}), id_generator=_RequestIds())
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer("dermqueue")

    def during(self, name: str) -> AbstractContextManager:
        """Return a context manager that records a span within this thread's open one."""
        return self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False)

    def until_now(self, name: str, traceparent: str, began_ns: int) -> None:
        """Add a span that ends now to the trace of another process."""
        context = _PROPAGATOR.extract({"traceparent": traceparent})
        self._tracer.start_span(name, context, start_time=began_ns).end(time.time_ns())

    def traceparent(self) -> str | None:
        """Return the trace context of this thread's open span."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")


class _RequestIds(RandomIdGenerator):
    """Gives a request's trace the request's id."""

    def generate_trace_id(self) -> int:
        request_id = logged_ids().get("request_id")
        return int(request_id, 16) if request_id else super().generate_trace_id()
