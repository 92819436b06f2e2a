"""Commands that train networks: one on all its data, or one per fold of a cross-validation."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from deploy.bundles import BUNDLE_NAMES, opened_bundle
from deploy.commands import data_dir_option, data_option, file_type, folder_type
from deploy.terminal import progress
from shared.errors import InputUnusable

_out_type = click.Path(file_okay=False, path_type=Path)

_WEIGHTS_HELP = (
    "Initial weights: ImageNet weights of the recipe's network (ResNet-50 v1 with torchvision's key names,"
    " EfficientNet-Lite0 with EfficientNet-PyTorch's), or the weights.safetensors of an earlier run or bundle"
)


def _training_options(command: Callable) -> Callable:
    """Add the options that both commands take."""
    options = (
        data_option(
            required=True,
            help="A folder of images and the CSV of their diagnoses; repeat it to join several. The columns tell the"
            " layout: ISIC-2017 Part 3, ISIC-2018 or 2019, HAM10000, PAD-UFES-20, or image, patient and label.",
        ),
        click.option(
            "--recipe",
            default="default",
            show_default=True,
            help='A shipped recipe\'s name, or a TOML file; with based_on = "default" it names what differs.',
        ),
        click.option(
            "--set",
            "changes",
            multiple=True,
            metavar="KEY=VALUE",
            help="Override one value of the recipe, such as epochs=20 or loss.mixup_alpha=0.4; can be repeated.",
        ),
        click.option(
            "--teacher",
            "teachers",
            type=file_type,
            multiple=True,
            help="A cross-validation's predictions.csv, whose probabilities become part of the target: as much as"
            " loss.teacher_share. Several are averaged.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.option("--weights", type=file_type, required=True, help=f"{_WEIGHTS_HELP}.")
@_training_options
@click.option(
    "--val-data",
    type=(folder_type, file_type),
    multiple=True,
    metavar="IMAGES LABELS",
    help="Images that are not trained on, to measure loss and accuracy on after every epoch.",
)
@click.option(
    "--teacher-bundle",
    metavar="MODEL",
    help="Instead of --teacher: a bundle that predicts every image as it is trained on, augmented:"
    f" {BUNDLE_NAMES}. `cross-validate`, whose held-out images it would have learnt from, has --teacher-folds.",
)
@click.option("--out", type=_out_type, required=True, help="The run's folder.")
@data_dir_option
def train(data, weights, recipe, changes, teachers, val_data, teacher_bundle, out, data_dir) -> None:
    """Train one network on all its data.

    Writes to OUT: weights.safetensors (an average over the last steps' weights), history.csv and curves.png (loss and
    accuracy), tensorboard/, and run.json, which records how it was done. If a run is interrupted, however abruptly, the
    same command resumes it from its last epoch. Nothing is chosen on the validation data.

    Shipped recipes: default; attend (continues a run of default, and teaches its heatmaps to stay on the lesion); paper
    (Rokad and Nagarajan 2019, taken literally); pretrain (every diagnosis of a larger data set, to start another
    training from); portable (a light network, taught by a bundle).

    \b
    Examples:
      dermqueue train --data train/ train.csv --val-data val/ val.csv --weights imagenet.safetensors --out runs/one
      dermqueue train --recipe pretrain --data ham/ HAM10000_metadata.csv --weights imagenet.safetensors --out runs/ham
      dermqueue train --data train/ train.csv --data val/ val.csv --weights runs/ham/weights.safetensors --out runs/two
      dermqueue train --set loss.teacher_share=0.5 --teacher runs/cv/predictions.csv --data train/ train.csv \\
        --weights runs/ham/weights.safetensors --out runs/student
      dermqueue train --recipe portable --teacher-bundle open --data train/ train.csv --data val/ val.csv \\
        --weights efficientnet_lite0.safetensors --out runs/portable
      tensorboard --logdir runs/one/tensorboard
    """
    from worker.training.predictions import read_predictions  # torch is loaded only where it is used
    from worker.training.recipe import read_recipe, refuse_baseline
    from worker.training.run import train_network
    from worker.training.teacher import load_bundle_teacher

    chosen = read_recipe(recipe, changes)
    refuse_baseline(chosen)
    teacher_predictions = tuple(read_predictions(file) for file in teachers)
    teacher = None
    if teacher_bundle:
        with opened_bundle(teacher_bundle, data_dir) as folder:
            teacher = load_bundle_teacher(folder)
    with progress() as on_step:
        on_image = partial(on_step, "reading images")
        images = _read(data, chosen, on_image)
        val = _read_alike(val_data, chosen, images, on_image) if val_data else None
        train_network(chosen, weights, out, images, _with_loss(on_step), val, teacher_predictions, teacher)
    click.echo(f"The weights are in {out / 'weights.safetensors'}, the curves in {out / 'curves.png'}.")
    if chosen.target == "class":
        click.echo("`dermqueue bundle` makes a bundle, which a worker can load, from them and a cross-validation.")


@click.command("cross-validate")
@click.option(
    "--weights",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help=f"{_WEIGHTS_HELP}; weights that have seen these lesions would make the figures too optimistic. Or an earlier"
    " cross-validation's folder: each fold continues from its own network there.",
)
@_training_options
@click.option(
    "--unlabelled",
    type=folder_type,
    metavar="IMAGES",
    help="Self-training: each fold's network first predicts these images, whatever is known of them, and another one"
    " also learns from those of which it is most confident.",
)
@click.option(
    "--teacher-folds",
    type=folder_type,
    metavar="CV",
    help="Instead of --teacher: an earlier cross-validation's folder, of the same data with as many folds. Each fold's"
    " network there predicts every image of its fold as it is trained on, augmented.",
)
@click.option(
    "--folds", type=click.IntRange(2, 20), default=5, show_default=True, help="Number of folds, and so of networks."
)
@click.option("--out", type=_out_type, required=True, help="The folder of the runs, with a subfolder for each fold.")
def cross_validate(data, weights, recipe, changes, teachers, unlabelled, teacher_folds, folds, out) -> None:
    """Train one network per fold; each predicts unseen images.

    The folds are stratified by class; near-duplicates, and images of one lesion or patient where the CSV names it, are
    never separated. A fold's network is the average of its last epoch: nothing is chosen on the held-out images, so
    their predictions in OUT/predictions.csv are honest, and serve `dermqueue evaluate`, `dermqueue bundle` and
    --teacher.

    Choose recipes by this, never on images that the figures are to be reported on. With --teacher, a student's own
    figures are a little too optimistic where its teachers had learnt from the images that are held out from it; with
    --teacher-folds, none has.

    Folds are trained one after another, each as `dermqueue train` does; an interrupted call resumes where it was.

    Baselines, which never become bundles, can be measured on the same folds: the recipe svm (a support vector machine
    on an ImageNet network's features, read anew by each call), --unlabelled (self-training).

    \b
    Examples:
      dermqueue cross-validate --data train/ train.csv --data val/ val.csv --weights imagenet.safetensors \\
        --recipe default --set epochs=30 --out runs/cv-30-epochs
      dermqueue evaluate --predictions runs/cv-30-epochs/predictions.csv
      dermqueue cross-validate --data train/ train.csv --data val/ val.csv --weights runs/cv-30-epochs \\
        --recipe attend --out runs/cv-attend
      dermqueue cross-validate --data train/ train.csv --data val/ val.csv --weights efficientnet_lite0.safetensors \\
        --recipe portable --teacher-folds runs/cv-attend --out runs/cv-portable
      dermqueue cross-validate --data train/ train.csv --data val/ val.csv --weights imagenet.safetensors \\
        --recipe svm --out runs/svm
      dermqueue cross-validate --data train/ train.csv --data val/ val.csv --weights imagenet.safetensors \\
        --recipe default --set cleaned=true --out runs/cleaned
    """
    from worker.training.cross_validation import cross_validate as run_folds
    from worker.training.dataset import read_unlabelled
    from worker.training.figures import challenge_figures
    from worker.training.predictions import PREDICTIONS_NAME, read_predictions
    from worker.training.recipe import read_recipe

    chosen = read_recipe(recipe, changes)
    teacher_predictions = tuple(read_predictions(file) for file in teachers)
    with progress() as on_step:
        on_image = partial(on_step, "reading images")
        images = _read(data, chosen, on_image)
        if images.groups == images.ids:
            click.echo("The labels name no lesion or patient: only near-duplicates are kept in one fold.", err=True)
        others = read_unlabelled(unlabelled, on_image) if unlabelled else None
        report = _with_loss(on_step)
        predictions = run_folds(chosen, weights, out, images, folds, report, teacher_predictions, others, teacher_folds)
    for name, value in challenge_figures(predictions.logits, predictions.labels).items():
        click.echo(f"{name:<26} {value:.3f}")
    click.echo(f"Intervals and more: dermqueue evaluate --predictions {out / PREDICTIONS_NAME}")


def _read(sources, recipe, on_image):
    """Read the images to train on, and print how many there are of each class."""
    from shared.domain import CLASSES
    from worker.training.dataset import read_images
    from worker.training.words import count_in_words

    classes = CLASSES if recipe.target == "class" else None
    images = read_images(sources, classes=classes, on_image=on_image)
    click.echo(f"{len(images)} images: {count_in_words(images.count())}.", err=True)
    if images.left_out:
        click.echo(f"Left out, for other diagnoses: {count_in_words(images.left_out)}.", err=True)
    return images


def _read_alike(sources, recipe, train, on_image):
    """Read images of the training's classes, none of which is trained on."""
    from worker.training.dataset import read_images

    images = read_images(sources, recipe.preprocessing, train.classes, on_image)
    if both := sorted({*images.ids} & {*train.ids}):
        raise InputUnusable(
            "data_unusable",
            f"{len(both)} images are in --data and in --val-data, such as {both[0]}: the network would be measured on"
            " what it learns.",
        )
    return images


def _with_loss(on_step: Callable[..., None]) -> Callable[[int, int, float], None]:
    """Return the callback that moves the bar of training and shows the loss."""

    def move(done: int, total: int, loss: float) -> None:
        on_step("training", done, total, "reading features" if math.isnan(loss) else f"training, loss {loss:.3f}")

    return move


COMMANDS = (train, cross_validate)
