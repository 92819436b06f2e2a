"""Commands that measure a bundle."""

import json
from pathlib import Path

import click

_folder = click.Path(exists=True, file_okay=False, path_type=Path)
_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--bundle", required=True, help="A shipped bundle's name, or a bundle's folder.")
@click.option("--images", type=_folder, required=True, help="Folder of images, named IMAGE_ID.jpg.")
@click.option("--labels", type=_file, required=True, help="CSV: image_id, melanoma, seborrheic_keratosis (0 or 1).")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures as JSON.")
def evaluate(bundle, images, labels, report) -> None:
    """Measure a bundle on labelled images: AUC, accuracy, sensitivity and specificity, with 95 % intervals."""
    from shared.bundle import find_bundle
    from worker.training.evaluation import evaluate_bundle

    figures = evaluate_bundle(find_bundle(bundle), images, labels)
    for name, figure in figures.items():
        click.echo(f"{name:<48} {figure.value:.3f}  [{figure.low:.3f}, {figure.high:.3f}]  n={figure.n}")
    if report:
        report.write_text(json.dumps({name: figure.model_dump() for name, figure in figures.items()}, indent=2) + "\n")


COMMANDS = (evaluate,)
