"""Commands that train a network."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_folder = click.Path(exists=True, file_okay=False, path_type=Path)
_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--images", type=_folder, required=True, help="Folder of training images, named IMAGE_ID.jpg.")
@click.option("--labels", type=_file, required=True, help="CSV: image_id, melanoma, seborrheic_keratosis (0 or 1).")
@click.option("--val-images", type=_folder, required=True, help="Folder of validation images.")
@click.option("--val-labels", type=_file, required=True, help="Their CSV. The best epoch is chosen on them.")
@click.option("--weights", type=_file, required=True, help="ImageNet ResNet-50 v1 weights, safetensors.")
@click.option("--recipe", default="default", show_default=True, help="A shipped recipe's name, or a TOML file.")
@click.option("--name", required=True, help="The bundle's name.")
@click.option("--version", required=True, help="The bundle's version.")
@click.option("--licence", default="not stated", show_default=True, help="What the card says of data, weights and use.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The run's folder.")
def train(images, labels, val_images, val_labels, weights, recipe, name, version, licence, out) -> None:
    """Fine-tune the network on labelled images and write a bundle to OUT/bundle.

    The layout is the ISIC archive's own: a folder of images and a ground-truth CSV; an image that is neither melanoma
    nor seborrheic keratosis is a nevus. A run that was interrupted goes on from its last epoch when started again.

    \b
    Example:
      dermqueue train --images train/ --labels train.csv --val-images val/ --val-labels val.csv \\
        --weights resnet50_imagenet.safetensors --name my-model --version 1 --out runs/my-model
    """
    from worker.training.dataset import read_isic  # torch is loaded only where it is used
    from worker.training.export import write_bundle
    from worker.training.fine_tune import FineTuning
    from worker.training.recipe import read_recipe

    out.mkdir(parents=True, exist_ok=True)
    chosen = read_recipe(recipe)
    training_set = read_isic(images, labels, chosen.source_side)
    validation_set = read_isic(val_images, val_labels, chosen.input_side)
    columns = TextColumn("training"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("training", total=None)
        fine_tuning = FineTuning(chosen, weights, out, len(training_set))
        best = fine_tuning.run(
            training_set, validation_set, lambda step, total: progress.update(task, completed=step, total=total)
        )
    bundle = write_bundle(
        out / "bundle", best, chosen, training_set, validation_set, name=name, version=version, licence=licence
    )
    click.echo(f"The bundle is in {bundle}. Use it with DERMQUEUE_MODEL={bundle}")


COMMANDS = (train,)
