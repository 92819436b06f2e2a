"""The rehearsal as a chart and as the table of `deploy/docs/scaling.md`."""

import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from tests.rehearsal.day import load_at
from tests.rehearsal.rehearse import Day

_BEGIN, _END = "<!-- rehearsal -->", "<!-- end of rehearsal -->"
_BINS_PER_HOUR = 2


def draw(day: Day, file: Path) -> None:
    """Draw arrivals and ends, the backlog, the workers and the waiting time over the day's 24 hours."""
    per_hour = day.plan.day_s / 24
    hours = np.array([look.at_s for look in day.looks]) / per_hour
    submitted = np.array([case.submitted_s for case in day.cases]) / per_hour
    finished = np.array([case.finished_s for case in day.cases]) / per_hour
    waited_s = np.array([case.finished_s - case.submitted_s for case in day.cases])
    figure, (flow, backlog, workers, waiting) = plt.subplots(4, sharex=True, figsize=(9, 9), layout="constrained")
    edges = np.arange(0, hours[-1] + 1 / _BINS_PER_HOUR, 1 / _BINS_PER_HOUR)
    bin_s = per_hour / _BINS_PER_HOUR
    times = np.linspace(0, 24, 289)
    flow.plot(times, [day.plan.peak_per_s * load_at(hour) for hour in times], "k--", label="expected")
    flow.stairs(np.histogram(submitted, edges)[0] / bin_s, edges, label="submitted")
    flow.stairs(np.histogram(finished, edges)[0] / bin_s, edges, label="finished")
    flow.set_ylabel("cases per second")
    backlog.plot(hours, [look.backlog for look in day.looks], color="C3")
    backlog.set_ylabel("backlog, cases")
    workers.step(hours, [look.workers for look in day.looks], where="post", label="asked for")
    workers.step(hours, [look.ready for look in day.looks], where="post", label="taking tasks")
    workers.set(ylabel="workers", ylim=(-0.2, day.rule.most_workers + 0.5))
    waiting.plot(submitted, waited_s, ".", markersize=2, alpha=0.4, label="each case")
    waiting.plot(*zip(*_medians(submitted, waited_s, edges), strict=True), color="k", label="median of half an hour")
    waiting.set(xlabel=f"hour of the day, which lasted {day.plan.day_s:.0f} s", ylabel="waiting, s", ylim=(0, None))
    waiting.set_xticks(range(0, 25, 2))
    for panel in (flow, workers, waiting):
        panel.legend(loc="upper right", fontsize="small")
    for panel in (flow, backlog, workers, waiting):
        panel.grid(alpha=0.3)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _medians(submitted: np.ndarray, waited_s: np.ndarray, edges: Sequence[float]) -> Iterator[tuple[float, float]]:
    for begin, end in pairwise(edges):
        inside = waited_s[(submitted >= begin) & (submitted < end)]
        if len(inside):
            yield (begin + end) / 2, float(np.median(inside))


def to_rows(day: Day) -> dict[str, str]:
    """Return the measured values by name."""
    waited_s = [case.finished_s - case.submitted_s for case in day.cases]
    median_s, p95_s = np.percentile(waited_s, [50, 95])
    looks, count = day.looks, len(day.cases)
    worker_s = sum(look.workers * (later.at_s - look.at_s) for look, later in pairwise(looks))
    per_day_s = day.rule.most_workers * looks[-1].at_s
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}, on a shared machine with {os.cpu_count()} cores",
        "simulated day": f"{day.plan.day_s:.0f} s; {day.plan.peak_per_s:g} cases/s at its peak",
        "per worker": f"1 photograph in {day.plan.photograph_s:g} s; {day.rule.cases_per_worker:.0f} cases of backlog",
        "cases": f"{count:,}, all succeeded at the first attempt; submitted at most {day.late_s:.1f} s late",
        "largest backlog": f"{max(look.backlog for look in looks):,} cases",
        "workers": f"0 to {max(look.workers for look in looks)}; {day.starts} starts",
        "time to result": f"median {median_s:.1f} s, 95th percentile {p95_s:.1f} s, longest {max(waited_s):.1f} s",
        "worker time": f"{worker_s:,.0f} s, {worker_s / per_day_s:.0%} of {day.rule.most_workers} workers all day",
        "worker exit after SIGTERM": f"median {np.median(day.drains_s):.1f} s, longest {max(day.drains_s):.1f} s",
        **{f"CPU time of {name}": f"{1000 * s / count:.1f} ms per case" for name, s in day.meters.cpu_s.items()},
        "PostgreSQL on disk": f"{day.meters.sql_bytes / count:,.0f} bytes per case",
        "PostgreSQL's write-ahead log": f"{day.meters.wal_bytes / count:,.0f} bytes per case",
        "PostgreSQL's commits": f"{day.meters.commits / count:.1f} per case, including those of idle workers",
    }


def write_document(document: Path, rows: dict[str, str]) -> None:
    """Replace the table in a page by this one."""
    table = "\n".join(
        ["| metric | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    )
    before = document.read_text()
    document.write_text(re.sub(f"{_BEGIN}.*{_END}", f"{_BEGIN}\n{table}\n{_END}", before, flags=re.DOTALL))
