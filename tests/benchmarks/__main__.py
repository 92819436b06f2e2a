"""`make bench`: everything is measured side by side on this machine, and held against the targets."""

import importlib
from pathlib import Path

import click
from rich.console import Console

from deploy.site_links import REPOSITORY
from tests.benchmarks.report import PICTURE, draw, has_picture, show, write_document
from tests.benchmarks.results import RESULTS, add_part, describe_machine, read_results, write_results

DOCS = REPOSITORY / "deploy" / "docs"
PARTS = {
    "heatmap": "what the heatmap costs beside the forward pass",
    "drain": "cases per second beside the limit and the peers, at three sizes, with one worker and two",
    "latency": "one case at a time, beside decoding it and one forward pass",
    "memory": "the programs' memory over 10,000 cases",
    "api": "submissions and polls per second, beside bare Flask",
    "growth": "claim, poll and list with up to a million rows",
}
"""Each is a module here whose `measure(quick)` returns its `ratios` and raw figures."""

_LIST = "\n".join(f"{name:8} {meaning}" for name, meaning in PARTS.items())
_HELP = f"""\
Measure how fast the system is, beside what the machine could do and what people use today.

The parts:

\b
{_LIST}

Nothing else should compute meanwhile. After each part the figures are written; parts that are not run again keep
theirs, unless they are of another machine or of other versions.
"""


def _chosen(_context: click.Context, _option: click.Parameter, value: str | None) -> list[str]:
    names = value.split(",") if value else list(PARTS)
    if unknown := set(names) - set(PARTS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}.")
    return names


@click.command(help=_HELP)
@click.option("--only", "names", metavar="PART,…", callback=_chosen, help="Run these parts alone.")
@click.option("--quick", is_flag=True, help="Smaller piles and fewer rounds: minutes, and figures that vary more.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where results and picture go, instead of the repository's results and its documentation.",
)
def main(names: list[str], quick: bool, out: Path | None) -> None:
    results_folder, pictures = out or RESULTS, out or DOCS
    results = read_results(results_folder)
    for number, name in enumerate(names, start=1):
        click.echo(f"{name} ({number} of {len(names)}): {PARTS[name]}")
        # Each part loads its own libraries, when its turn comes.
        found = importlib.import_module(f"tests.benchmarks.{name}").measure(quick)
        results = add_part(results, describe_machine(), name, found, quick)
        write_results(results_folder, results)
    if has_picture(results):
        draw(results, pictures / PICTURE)
    if out is None:
        write_document(DOCS / "benchmarks.md", results)
    show(results, Console())


if __name__ == "__main__":
    main()
