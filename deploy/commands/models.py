"""Commands that make a bundle of a trained network, and that list, show, verify and choose bundles."""

from pathlib import Path

import click

from deploy.commands.evaluation import data_option, file_type, progress


@click.command()
@click.option("--weights", type=file_type, required=True, help="A run's weights.safetensors.")
@click.option("--run", type=file_type, help="The run's run.json.  [default: the one beside the weights]")
@click.option(
    "--predictions",
    type=file_type,
    required=True,
    help="The predictions.csv of a cross-validation by the same recipe: it is calibrated and measured on them.",
)
@data_option(help="Labelled images, which set the scale of the heatmaps' colours: those it was trained on will do.")
@click.option("--name", required=True, help="The bundle's name.")
@click.option("--version", required=True, help="The bundle's version.")
@click.option("--licence", required=True, help="The bundle's own licence.")
@click.option(
    "--licence-of-data",
    "sources",
    multiple=True,
    required=True,
    help="A data set or starting weights with licence and attribution, for the card; one option for each.",
)
@click.option(
    "--metadata",
    type=file_type,
    multiple=True,
    help="A CSV with image_id, age and sex: the card then says how it fares by age and sex.",
)
@click.option("--experiments", type=file_type, help="A Markdown file on what was tried, to lie beside the card.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The bundle's folder.")
def bundle(weights, run, predictions, data, name, version, licence, sources, metadata, experiments, out) -> None:
    """Make a bundle, which a worker can load, of a run's weights and a cross-validation's predictions.

    The predictions give temperature, operating points and the card's figures, each image being judged by a network
    that had not seen it and by thresholds that were chosen on other images.

    \b
    Example:
      dermqueue bundle --weights runs/final/weights.safetensors --predictions runs/cv/predictions.csv \\
        --data images/ labels.csv --name mine --version 1 --licence "MIT" \\
        --licence-of-data "ISIC-2017 Part 3 (CC0 1.0), ISIC Archive" \\
        --licence-of-data "ImageNet ResNet-50 v1 weights (MIT)" --out bundles/mine
    """
    from worker.training.export import Description, read_run, write_bundle
    from worker.training.groups import read_people
    from worker.training.predictions import read_predictions

    trained = read_run(run or weights.parent / "run.json")
    description = Description(name, version, licence, sources, read_people(metadata), experiments)
    with progress() as on_step:
        write_bundle(out, weights, trained, read_predictions(predictions), data, description, on_step)
    click.echo(f"The bundle is in {out}. Look at {out / 'card.md'}, then: dermqueue model use {out}")


COMMANDS = (bundle,)
