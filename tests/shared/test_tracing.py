"""Tracing is off unless a variable says where traces go."""

import sys

import pytest

from shared import tracing
from shared.errors import ConfigurationInvalid
from shared.log_ids import logged_with, request_of


def test_without_the_variable_nothing_is_loaded_and_a_request_still_has_its_id():
    tracing.start_tracing("dermqueue-tests")
    assert "shared.telemetry" not in sys.modules
    with tracing.span("store"), logged_with(request_id="ab" * 16):
        assert request_of(tracing.current_traceparent()) == "ab" * 16


def test_tracing_that_is_on_but_not_installed_stops_the_start(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    monkeypatch.setitem(sys.modules, "shared.telemetry", None)
    with pytest.raises(ConfigurationInvalid, match="install `dermqueue\\[traces\\]`"):
        tracing.start_tracing("dermqueue-tests")
