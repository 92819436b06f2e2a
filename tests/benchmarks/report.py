"""The results as tables, for the terminal and for `deploy/docs/benchmarks.md`, and as a picture."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from tests.benchmarks.piles import FULL_SIZE, LARGE_SIZE, SMALL_SIZE
from tests.benchmarks.results import TARGETS

PICTURE = "benchmarks.png"
_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"
_UNKNOWN = "–"

Rows = Sequence[Sequence[str]]
"""A table's cells; the first row has the headings."""


def ratio_rows(results: Mapping) -> Rows:
    """Return every target with its measured value, or a dash where there is none yet."""
    measured = {name: part for part in results["parts"].values() for name in part["ratios"]}
    rows = [("metric", "measured", "target", "result", "date")]
    for name, target in TARGETS.items():
        if name in results["ratios"]:
            value, part = results["ratios"][name], measured[name]
            verdict = "met" if target.is_met(value) else "missed"
            cells = f"{value:.3g}", str(target), verdict, part["measured"] + (", quick" if part["quick"] else "")
        else:
            cells = _UNKNOWN, str(target), "", _UNKNOWN
        rows.append((name, *cells))
    return rows


def rate_rows(results: Mapping) -> Rows:
    """Return the photographs per second of each contender on each pile; no rows if that was not measured."""
    drained = results["parts"].get("drain", {})
    rates = drained.get("photographs_per_s", {})
    names = dict.fromkeys(name for of_pile in rates.values() for name in of_pile) | drained.get("not_started", {})
    cells = [[f"{of_pile[name]:.1f}" if name in of_pile else _UNKNOWN for of_pile in rates.values()] for name in names]
    head = [["photographs per second", *rates]] if rates else []
    return head + [[name, *of_name] for name, of_name in zip(names, cells, strict=True)]


def memory_rows(results: Mapping) -> Rows:
    """Return each program's peak memory; no rows if it was not measured."""
    peaks = results["parts"].get("memory", {}).get("peak_mib", {})
    head = [["program", "peak memory, MiB"]] if peaks else []
    return head + [[program, f"{mib:.0f}"] for program, mib in peaks.items()]


def show(results: Mapping, console: Console) -> None:
    """Print every table."""
    for rows in _tables(results):
        table = Table(*rows[0])
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    console.print(_describe(results["machine"]))


def to_markdown(results: Mapping) -> str:
    """Return every table, and the picture once there is one."""
    parts = [_markdown_table(rows) for rows in _tables(results)]
    if results["parts"]:
        parts.append(f"Machine: {_describe(results['machine'])}.")
    if has_picture(results):
        parts.append(f"![The same figures as charts]({PICTURE})")
    return "\n\n".join(parts)


def write_document(document: Path, results: Mapping) -> None:
    """Replace the figures in a page by those of this run."""
    replaced = f"{_BEGIN}\n{to_markdown(results)}\n{_END}"
    before = document.read_text()
    document.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: replaced, before, flags=re.DOTALL))


def has_picture(results: Mapping) -> bool:
    """Tell whether anything that the picture shows was measured."""
    return not {"drain", "memory"}.isdisjoint(results["parts"])


def draw(results: Mapping, file: Path) -> None:
    """Draw the contenders' rates, and the worker's memory over the cases done."""
    parts = results["parts"]
    figure, (*panels, memory) = plt.subplots(4, figsize=(9, 12), height_ratios=(3, 1.2, 1.2, 2), layout="constrained")
    rates = parts.get("drain", {}).get("photographs_per_s", {})
    for panel, pile in zip(panels, (FULL_SIZE, SMALL_SIZE, LARGE_SIZE), strict=True):
        _draw_rates(panel, pile, rates.get(pile, {}))
    curve = parts.get("memory", {}).get("worker_mib", [])
    memory.plot(*zip(*curve, strict=True) if curve else ((), ()), ".-", markersize=3)
    memory.set(xlabel="cases done", ylabel="worker's memory, MiB", ylim=(0, 1.1 * memory.get_ylim()[1]))
    memory.grid(alpha=0.3)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _draw_rates(panel: Axes, pile: str, rates: Mapping[str, float]) -> None:
    names = list(rates)[::-1]
    colours = ["C1" if name.startswith("DermQueue") else "C7" for name in names]
    panel.bar_label(panel.barh(names, [rates[name] for name in names], color=colours), fmt=" %.1f")
    panel.set_xlabel(f"photographs per second, {pile}")
    panel.margins(x=0.1)


def _tables(results: Mapping) -> Sequence[Rows]:
    return [rows for rows in (ratio_rows(results), rate_rows(results), memory_rows(results)) if rows]


def _markdown_table(rows: Rows) -> str:
    head, *body = rows
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body))


def _describe(machine: Mapping) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())
