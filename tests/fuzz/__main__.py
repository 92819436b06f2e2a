"""`make fuzz`: thousands of broken files through the path from upload to pixels; exits 1 where one does harm."""

import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.fuzz.campaign import FINDINGS, Campaign, Tally, make_file, run_campaign


@click.command()
@click.option("--files", default=10_000, show_default=True, help="How many files to break.")
@click.option("--seed", default=1, show_default=True, help="Another seed breaks them in other ways.")
@click.option("--processes", default=2, show_default=True, help="How many work side by side.")
def main(files: int, seed: int, processes: int) -> None:
    """Break photographs at random and put them through intake, stripping, decoding and squashing."""
    console, started = Console(), time.monotonic()
    columns = (TextColumn("fuzzing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[found]} findings"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("", total=files, found=0)
        tally = run_campaign(
            Campaign(seed, files, processes),
            lambda so_far: progress.update(task, advance=1, found=len(so_far.findings)),
        )
    console.print(_table(tally, time.monotonic() - started))
    for tried in tally.findings:
        console.print(f"file {tried.number}: {tried.finding} -> {_save(seed, tried.number)}")
    sys.exit(1 if tally.findings else 0)


def _table(tally: Tally, seconds: float) -> Table:
    kinds = [tried.finding.split(":")[0] for tried in tally.findings]
    rows = {
        "files": f"{tally.files:,} in {seconds:.0f} s",
        **{f"{fate}": f"{count:,}" for fate, count in sorted(tally.fates.items())},
        **{kind: str(kinds.count(kind)) for kind in ("crash", "hang", "memory", "unexpected")},
        "slowest": f"{tally.slowest.cpu_s:.2f} s CPU (file {tally.slowest.number})",
        "peak memory": f"{tally.peak_kb / 2**10:.0f} MB",
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _save(seed: int, number: int) -> Path:
    FINDINGS.mkdir(exist_ok=True)
    file = FINDINGS / f"seed-{seed}-file-{number}.bin"
    file.write_bytes(make_file(seed, number))
    return file


if __name__ == "__main__":
    main()
