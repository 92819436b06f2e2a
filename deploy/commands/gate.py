"""Commands of the quality gate: what a bundle knows of its training images, and how often warnings are right."""

import click
from rich.console import Console
from rich.table import Table

from deploy.bundles import BUNDLE_NAMES, is_remote, opened_bundle
from deploy.commands import data_dir_option, data_option, folder_type
from deploy.terminal import progress

_kinds_type = (str, folder_type)


@click.group()
def gate() -> None:
    """Teach and measure the warnings on photographs: dark, blurred, glare, no lesion in view, hairy, not dermoscopic.

    \b
    Examples:
      dermqueue gate learn --bundle bundles/mine --data images/ labels.csv
      dermqueue gate measure --bundle open --images "plain skin" skin/ --images phone phone/ --worse dermoscopy val/
    """


@gate.command("learn")
@click.option("--bundle", type=folder_type, required=True, help="The bundle's folder, which is changed.")
@data_option(required=True, help="The images that the bundle was trained on, or a part of them.")
def learn(bundle, data) -> None:
    """Let a bundle know the features of its training images; `dermqueue bundle` does it for new ones.

    Writes features.safetensors, and says so in the manifest and on the card; a result then warns of photographs that
    are not like these. The weights stay as they are, and the bundle gets another digest.
    """
    from worker.training.bundling import add_familiarity

    with progress() as on_progress:
        add_familiarity(bundle, data, on_progress)
    click.echo(f"The bundle in {bundle} knows its training images. Now: dermqueue gate measure --help")


@gate.command("measure")
@click.option("--bundle", required=True, help=f"What is measured: {BUNDLE_NAMES}.")
@click.option(
    "--images", type=_kinds_type, multiple=True, metavar="KIND FOLDER", help="Images of a kind; can be repeated."
)
@click.option(
    "--worse",
    type=_kinds_type,
    multiple=True,
    metavar="KIND FOLDER",
    help="Good images, to be blurred and lit badly first; can be repeated.",
)
@click.option("--note", is_flag=True, help="Write the shares of --images that are not dermoscopic into the bundle.")
@data_dir_option
def measure(bundle, images, worse, note, data_dir) -> None:
    """Print which share of images of each kind is warned of or rejected, with intervals of 95 %, and by which code."""
    from worker.model import choose_device, load_model
    from worker.training.bundling import note_flags
    from worker.training.gate import flag_images, flag_worse

    if not (images or worse):
        raise click.UsageError("Give --images or --worse.")
    if note and is_remote(bundle):
        raise click.UsageError("--note writes into the bundle, and one in S3 is only read: give its folder.")
    with opened_bundle(bundle, data_dir) as folder:
        model = load_model(folder, choose_device("auto"))
        with progress() as on_progress:
            flags = [flag_images(model, *kind, on_progress) for kind in images]
            made_worse = [each for kind in worse for each in flag_worse(model, *kind, on_progress)]
        _print_flags([*flags, *made_worse])
        if note:
            note_flags(folder, flags)
            click.echo(f"What was measured stands in {folder}.")


def _print_flags(flags) -> None:
    table = Table("images", "n", "flagged", "95 % interval", "by code")
    for each in flags:
        figure, codes = each.flagged, sorted({code for said in each.codes for code in said})
        by_code = ", ".join(f"{code} {each.of(code).value:.1%}" for code in codes)
        table.add_row(
            each.kind, str(figure.n), f"{figure.value:.1%}", f"{figure.low:.1%} to {figure.high:.1%}", by_code
        )
    Console().print(table)


COMMANDS = (gate,)
