"""The command that evaluates a bundle or a cross-validation."""

from pathlib import Path

import click
from rich.table import Table

from deploy.bundles import BUNDLE_NAMES, opened_bundle
from deploy.commands import data_dir_option, data_option, file_type, folder_type
from deploy.terminal import make_console, progress
from shared.domain import CLASSES


@click.command()
@click.option("--bundle", help=f"The bundle to evaluate: {BUNDLE_NAMES}.")
@data_option(
    help="A folder of images and the CSV of their diagnoses, with the columns image, patient and label or laid out as"
    " in the ISIC archive; can be repeated."
)
@click.option(
    "--predictions",
    type=file_type,
    help="Instead of --bundle and --data: the predictions.csv that `dermqueue cross-validate` wrote.",
)
@click.option(
    "--metadata",
    type=file_type,
    multiple=True,
    help="A CSV with image_id, age (or age_approximate), sex or fitzpatrick, for figures by group; can be repeated.",
)
@click.option("--disturb", is_flag=True, help="Also measure robustness to changes of light, distance, focus and more.")
@click.option(
    "--masks",
    type=folder_type,
    help="A folder of lesion masks, white inside, each named like its image, or with _segmentation appended: also"
    " measure how much of the heatmap of melanoma lies inside, and how often attention_off_lesion warns rightly.",
)
@click.option(
    "--against",
    metavar="BUNDLE|CSV",
    help="Compare with another bundle, given like --bundle, or with other predictions.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Write a report with plots to this folder."
)
@data_dir_option
def evaluate(bundle, data, predictions, metadata, disturb, masks, against, out, data_dir) -> None:
    """Evaluate a bundle on labelled images, or predictions.

    Prints AUC, accuracy, sensitivity and specificity at each operating point, calibration and more, each with its 95%
    interval, in which images of one lesion or patient count together if the CSV names it; for images with diagnoses
    that no bundle knows, how well the melanoma probability ranks malignant ones (melanoma, basal and squamous cell
    carcinoma) above the others; for cross-validations, and bundles with plausible diagnoses, how often the true one is
    among these, and how many there are. --out also writes report.json, report.md, and plots of the ROC curve,
    calibration and confusion.

    Never evaluate on images that the bundle was trained or calibrated on: the figures would be too optimistic.

    --disturb resizes each image to 256 px, like everything that a bundle reads, and changes brightness and contrast by
    30%, the light's colour, scale (0.6, 1.4), position, focus, JPEG quality and rotation, or draws hairs or a ruler on
    it; an image is changed in the same way each time. It reads every image fifteen more times.

    \b
    Examples:
      dermqueue evaluate --bundle open --data images/ labels.csv --out report/
      dermqueue evaluate --bundle open --against runs/mine/bundle --data images/ labels.csv --metadata people.csv
      dermqueue evaluate --bundle open --data images/ labels.csv --disturb --masks masks/ --out report/
      dermqueue evaluate --predictions cv/new/predictions.csv --against cv/old/predictions.csv
    """
    from worker.training.evaluation import evaluate, read_cross_validation, write_evaluation
    from worker.training.groups import read_people
    from worker.training.labels import ids_of
    from worker.training.localisation import count_warnings, find_masks, measure_localisation
    from worker.training.robustness import measure_robustness, refuse_unrankable

    if bool(predictions) == bool(bundle and data) or (predictions and (bundle or data)):
        raise click.UsageError("Give either --bundle and --data, or --predictions.")
    if predictions and against and not Path(against).is_file():
        raise click.UsageError(f"With --predictions, --against must be a file of predictions, too; {against} is not.")
    if predictions and (disturb or masks):
        raise click.UsageError("--disturb and --masks need a --bundle.")
    people = read_people(metadata)
    if disturb:
        refuse_unrankable(labels for _, labels in data)
    found_masks = masks and find_masks(masks, ids_of((labels for _, labels in data), CLASSES))
    if predictions:
        first, second = read_cross_validation(predictions), against and read_cross_validation(Path(against))
    else:
        # Load both before spending an hour on one.
        model, other = _load(bundle, data_dir), against and _load(against, data_dir)
        first, second = _read_with(model, data), other and _read_with(other, data)
    report = evaluate(first, people, second)
    if found_masks:
        report.attention = measure_localisation(first.readings, first.heatmaps.maps, found_masks)
        report.off_lesion = count_warnings(first.readings, first.heatmaps, found_masks)
    if disturb:
        with progress() as on_progress:
            report.robustness = measure_robustness(model, data, first.readings, on_progress)
    print_report(report)
    if out:
        write_evaluation(out, first, report)
        click.echo(f"The report is in {out}")


def _load(bundle: str, data_dir: Path):
    from worker.model import choose_commands_device, load_model

    with opened_bundle(bundle, data_dir) as folder:
        return load_model(folder, choose_commands_device())


def _read_with(model, sources):
    from worker.training.evaluation import read_with_bundle

    with progress() as on_progress:
        return read_with_bundle(model, sources, on_progress)


def print_report(report) -> None:
    """Print the figures as tables."""
    from worker.training.report import tables
    from worker.training.words import count_in_words

    console = make_console()
    console.print(f"{report.subject}: {report.n} images ({count_in_words(report.n_by_class)})", highlight=False)
    for title, (columns, rows) in tables(report).items():
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)


COMMANDS = (evaluate,)
