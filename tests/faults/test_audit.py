"""The audit sees what must not be: a harness that finds nothing may be blind."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.domain import State
from tests.faults.audit import Outcome, Trace, audit
from tests.faults.load import Load
from tests.faults.table import write_document

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = {"clinic/a/photograph.jpg", "clinic/a/overlay.png"}
CLEAN = {"cases": 1, "lost": 0, "duplicated": 0, "stuck": 0, "failed": 0, "orphaned": 0, "longest_delay_s": 3.0}


def trace(**changes) -> Trace:
    values = {
        "id": "a",
        "reference": "photograph 0",
        "state": State.SUCCEEDED,
        "attempts": 1,
        "error_code": None,
        "submitted_at": NOW,
        "finished_at": NOW + timedelta(seconds=3),
        "photograph_key": "clinic/a/photograph.jpg",
        "overlay_key": "clinic/a/overlay.png",
    }
    return Trace(**values | changes)


WAITING = trace(state=State.QUEUED, finished_at=None, overlay_key=None)
FAILED = trace(state=State.FAILED, overlay_key=None)
AGAIN = trace(id="b")


@pytest.mark.parametrize(
    ("traces", "keys", "found"),
    [
        ([trace()], KEYS, {}),
        ([], set(), {"lost": 1, "longest_delay_s": 0.0}),
        ([trace()], {"clinic/a/overlay.png"}, {"lost": 1}),
        ([trace()], {"clinic/a/photograph.jpg"}, {"lost": 1}),
        ([trace(), AGAIN], KEYS, {"duplicated": 1}),
        ([WAITING], {"clinic/a/photograph.jpg"}, {"stuck": 1, "longest_delay_s": 0.0}),
        ([FAILED], {"clinic/a/photograph.jpg"}, {"failed": 1}),
        ([trace()], {*KEYS, "clinic/a/overlay of a late worker.png"}, {"orphaned": 1}),
    ],
)
def test_the_audit_counts_what_sql_and_the_object_store_hold(traces, keys, found):
    load = Load([], 1, [], 1, accepted={"photograph 0": "a"})
    assert audit(load, traces, keys) == CLEAN | found


def test_a_case_that_was_seen_to_end_in_two_ways_is_duplicated():
    load = Load([], 1, [], 1, accepted={"photograph 0": "a"}, endings={"a": {trace().ending, FAILED.ending}})
    assert audit(load, [trace()], KEYS) == CLEAN | {"duplicated": 1}


def test_the_document_keeps_older_lines_of_this_machine_and_replaces_those_that_were_measured_again(tmp_path):
    document = tmp_path / "faults.md"
    write_document(document, [outcome("broker killed", 1.0), outcome("worker killed", 2.0)])
    write_document(document, [outcome("worker killed", 3.0)])
    lines = [line.split(" | ")[:11] for line in document.read_text().splitlines() if line.startswith("| ")][2:]
    assert [(cells[0], cells[10]) for cells in lines] == [("| broker killed", "1.0"), ("| worker killed", "3.0")]
    document.write_text(document.read_text().replace("Machine: ", "Machine: another, "))
    write_document(document, [outcome("worker killed", 4.0)])
    assert "broker killed" not in document.read_text()


def outcome(fault: str, recovery_s: float) -> Outcome:
    return Outcome(fault, "embedded", times=1, recovery_s=recovery_s, **CLEAN)
