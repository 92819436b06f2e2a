"""`make rehearsal`: a day in fast motion, with workers that come and go as in the cluster."""

import tempfile
from pathlib import Path

import click

from tests.rehearsal.rehearse import Look, Plan, rehearse
from tests.rehearsal.report import draw, to_rows, write_document

DOCS = Path(__file__).parents[2] / "deploy" / "docs"


@click.command()
@click.option("--day", "day_s", default=3600.0, show_default=True, help="How long the day lasts, in seconds.")
@click.option("--peak", "peak_per_s", default=5.0, show_default=True, help="Cases per second in the busiest hour.")
@click.option("--photograph", "photograph_s", default=1.0, show_default=True, help="Seconds that the network takes.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Where the chart goes instead of the docs."
)
def main(day_s: float, peak_per_s: float, photograph_s: float, out: Path | None) -> None:
    """Rehearse scaling, print the figures and put them and the chart into deploy/docs."""
    # Not in the user's own temporary folder: PostgreSQL, which does not run as root, must reach it.
    with tempfile.TemporaryDirectory(prefix="dermqueue-rehearsal-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        day = rehearse(Plan(day_s, peak_per_s, photograph_s), folder, _tell)
    rows = to_rows(day)
    draw(day, (out or DOCS) / "rehearsal.png")
    if out is None:
        write_document(DOCS / "scaling.md", rows)
    for name, value in rows.items():
        click.echo(f"{name}: {value}")


def _tell(look: Look) -> None:
    if round(look.at_s) % 10 == 0:
        click.echo(f"{look.at_s:6.0f} s  backlog {look.backlog:5}  workers {look.workers} ({look.ready} ready)")


if __name__ == "__main__":
    main()
