"""Commands that make a bundle from a trained network, and that list, show, verify and choose bundles."""

import json
import os
from pathlib import Path

import click

from deploy.bundles import MODELS, is_remote, opened_bundle, resolve_bundle
from deploy.commands import data_dir_option, data_option, file_type
from deploy.stack import MODEL_VARIABLE, choose_model, chosen_model
from deploy.terminal import progress
from shared.bundle import SHIPPED_BUNDLES, find_bundle, read_card, read_manifest
from shared.errors import ModelUnusable


@click.command()
@click.option("--weights", type=file_type, required=True, help="A run's weights.safetensors.")
@click.option("--run", type=file_type, help="The run's run.json.  [default: the one beside the weights]")
@click.option(
    "--predictions",
    type=file_type,
    required=True,
    help="The predictions.csv of a cross-validation with the same recipe on the same images, to calibrate and measure"
    " the bundle on.",
)
@data_option(
    required=True,
    help="Labelled images, which set the heatmaps' colour scale: the training images will do.",
)
@click.option("--name", required=True, help="The bundle's name.")
@click.option("--version", required=True, help="The bundle's version.")
@click.option("--licence", required=True, help="The bundle's own licence.")
@click.option(
    "--licence-of-data",
    "sources",
    multiple=True,
    required=True,
    help="A data set or the initial weights, with licence and attribution, for the card; one option for each.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    default=("On skin, with cameras and for diagnoses unlike those of its data, it is unproven.",),
    show_default=True,
    help="A limit that comes from the data, in a sentence, for the card: whose skin, which cameras, what is missing;"
    " can be repeated.",
)
@click.option(
    "--metadata",
    type=file_type,
    multiple=True,
    help="A CSV with image_id, age and sex: the card then has figures by age and sex.",
)
@click.option("--experiments", type=file_type, help="A Markdown file on what was tried, to keep beside the card.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The bundle's folder.")
def bundle(weights, run, predictions, data, metadata, out, **described) -> None:
    """Make a bundle, which a worker can load, from a run.

    A cross-validation's predictions give temperature, operating points and the card's figures: each image is
    judged by a network that had not seen it, with thresholds that were chosen on other images.

    \b
    Example:
      dermqueue bundle --weights runs/final/weights.safetensors --predictions runs/cv/predictions.csv \\
        --data images/ labels.csv --name mine --version 1 --licence "MIT" \\
        --licence-of-data "ISIC-2017 Part 3 (CC0 1.0), ISIC Archive" \\
        --licence-of-data "ImageNet ResNet-50 v1 weights (MIT)" \\
        --limit "Trained on dermoscopy images of mostly light skin; on other skin it is unproven." --out bundles/mine
    """
    from worker.training.bundling import Description, write_bundle
    from worker.training.groups import read_people
    from worker.training.provenance import describe_teaching, read_matching
    from worker.training.record import read_run

    trained = read_run(run or weights.parent / "run.json")
    matching = read_matching(predictions, trained)
    description = Description(people=read_people(metadata), **described)
    with progress() as on_step:
        taught = describe_teaching(predictions, trained)
        write_bundle(out, weights, trained, matching, data, description, on_step, taught=taught)
    click.echo(f"The bundle is in {out}. Read {out / 'card.md'}, then: dermqueue model use {out}")


@click.group()
def model() -> None:
    """List, show, verify and choose bundles (models).

    A MODEL is a shipped bundle's name, the name of one in DATA_DIR/models, a bundle's folder, or s3://bucket/prefix.

    \b
    Examples:
      dermqueue model list
      dermqueue model show open
      dermqueue model verify bundles/mine && dermqueue model use bundles/mine
    """


@model.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_dir_option
def model_list(as_json: bool, data_dir: Path) -> None:
    """List the bundles, and which is in use.

    The shipped ones, those in DATA_DIR/models, and the one in use, marked with a star.
    """
    chosen = resolve_bundle(chosen_model(data_dir), data_dir)
    folders = [folder for place in (SHIPPED_BUNDLES, data_dir / MODELS) for folder in sorted(place.glob("*/"))]
    found = {resolve_bundle(str(folder), data_dir): folder for folder in folders} | {chosen: find_bundle(chosen)}
    listed = [{"model": name, "in_use": name == chosen, **_look_into(name, found[name])} for name in found]
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    for entry in listed:
        click.echo(
            f"{'*' if entry['in_use'] else ' '} {entry['model']}  {entry['problem'] or _line(entry['manifest'])}"
        )


def _look_into(name: str, folder: Path) -> dict:
    """Return a bundle's manifest, or why it cannot be read."""
    if is_remote(name):
        return {"manifest": None, "problem": "is in S3; `dermqueue model show` fetches it"}
    try:
        return {"manifest": read_manifest(folder).model_dump(mode="json"), "problem": None}
    except ModelUnusable as error:
        return {"manifest": None, "problem": error.detail}


def _line(manifest: dict) -> str:
    auc = manifest["figures"].get("auc_melanoma")
    measured = f"AUC melanoma {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})" if auc else "not measured"
    side = manifest["preprocessing"]["input_side"]
    return f"{manifest['name']} {manifest['version']}, {side} px, {measured}, {manifest['licence']}"


@model.command("show")
@click.argument("name", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest, bundle.json, instead of the card.")
@data_dir_option
def model_show(name: str, as_json: bool, data_dir: Path) -> None:
    """Print a bundle's card.

    Its data, figures with intervals, operating points and limits.
    """
    with opened_bundle(name, data_dir) as folder:
        shown = read_manifest(folder).model_dump_json(indent=2) if as_json else read_card(folder)
    click.echo(shown)


@model.command("verify")
@click.argument("name", metavar="MODEL")
@data_dir_option
def model_verify(name: str, data_dir: Path) -> None:
    """Check a bundle's digests, load it and run it.

    Exits with 1 if anything is wrong.
    """
    click.echo(f"{_verify(name, data_dir)} is intact, loads, and gives finite numbers.")


@model.command("use")
@click.argument("name", metavar="MODEL")
@data_dir_option
def model_use(name: str, data_dir: Path) -> None:
    """Verify a bundle and choose it for `dermqueue up`.

    Workers that are started separately, as on other machines, take it from DERMQUEUE_MODEL.
    """
    resolved = resolve_bundle(name, data_dir)
    verified = _verify(resolved, data_dir)
    is_running = choose_model(data_dir, resolved)
    click.echo(f"The stack in {data_dir} starts with {verified} from now on.")
    if is_running:
        click.echo("A stack is running there, still with its current model: stop it with Ctrl-C and start it again.")
    if os.environ.get(MODEL_VARIABLE, resolved) != resolved:
        click.echo(f"But {MODEL_VARIABLE} is set to {os.environ[MODEL_VARIABLE]} and overrides it: unset it.", err=True)


def _verify(name: str, data_dir: Path) -> str:
    """Return a bundle's name and version after running it on an image of noise; raise `ModelUnusable` if it fails."""
    import numpy as np

    from worker.model import choose_commands_device, load_model  # torch is loaded only where it is used

    with opened_bundle(name, data_dir) as folder:
        loaded = load_model(folder, choose_commands_device())
    side = loaded.manifest.preprocessing.input_side
    loaded.read(np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8))
    return f"{loaded.manifest.name} {loaded.manifest.version}"


COMMANDS = (bundle, model)
