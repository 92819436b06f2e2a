"""Log lines as they are written: for people, and as JSON."""

import json
import logging

import pytest
from click.testing import CliRunner

from deploy.cli import main
from deploy.logs import JsonLines, _add_ids
from shared.log_ids import logged_ids, logged_with, make_traceparent, request_of

VARIABLES = [("DERMQUEUE_LOG_LEVEL", "DEBUG"), ("DERMQUEUE_LOG_FORMAT", "Json")]


def record(message: str, *arguments, **more) -> logging.LogRecord:
    return logging.LogRecord("worker.triage", logging.WARNING, "triage.py", 1, message, arguments, None, **more)


def as_json(line: logging.LogRecord) -> dict:
    text = JsonLines().format(line)
    assert "\n" not in text
    return json.loads(text)


def test_an_event_is_written_with_its_fields_and_the_current_ids():
    with logged_with(request_id="12ab"), logged_with(case_id=7, clinic_id=None):
        line = as_json(record("task_postponed task=%s times=%d", "a b", 2))
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "worker.triage",
        "request_id": "12ab",
        "case_id": "7",
        "event": "task_postponed",
        "task": "a b",
        "times": 2,
    }


@pytest.mark.parametrize("message", ["Booting worker with pid: %s", "100 %% of\n%s"])
def test_what_others_log_is_a_message(message):
    assert as_json(record(message, 5))["message"] == message % 5


def test_a_traceback_stays_on_its_line():
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        line = record("request_crashed")
        line.exc_info = (type(error), error, error.__traceback__)
    assert "ZeroDivisionError" in as_json(line)["traceback"]


def test_lines_for_people_end_with_the_ids():
    line = record("worker_ready")
    with logged_with(request_id="12ab"):
        assert _add_ids(line)
    assert line.ids == " request_id=12ab"
    assert logged_ids() == {}


def test_a_requests_id_travels_in_its_trace_context():
    assert make_traceparent() is None
    assert request_of(None) is None
    with logged_with(request_id="ab" * 16):
        traceparent = make_traceparent()
    assert len(traceparent) == 55
    assert request_of(traceparent) == "ab" * 16


@pytest.mark.parametrize(("variable", "value"), VARIABLES)
def test_level_and_format_are_understood_in_either_case_and_otherwise_the_variable_is_named(variable, value):
    assert CliRunner().invoke(main, ["model", "list"], env={variable: value}).exit_code == 0
    refused = CliRunner().invoke(main, ["model", "list"], env={variable: "loud"})
    assert (refused.exit_code, variable in refused.stderr) == (2, True)
