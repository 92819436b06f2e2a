"""Commands of the quality gate: teach a bundle what its training images are like, and measure its warnings."""

import click
from rich.table import Table

from deploy.bundles import BUNDLE_NAMES, is_remote, opened_bundle
from deploy.commands import data_dir_option, data_option, folder_type
from deploy.terminal import make_console, progress

_kinds_type = (str, folder_type)


@click.group()
def gate() -> None:
    """Teach and measure the quality warnings on photographs.

    They are: dark, blurred, glare, no lesion in view, hairy, not dermoscopic.

    \b
    Examples:
      dermqueue gate learn --bundle bundles/mine --data images/ labels.csv
      dermqueue gate measure --bundle open --images "plain skin" skin/ --images phone phone/ --worse dermoscopy val/
    """


@gate.command("learn")
@click.option("--bundle", type=folder_type, required=True, help="The bundle's folder, changed in place.")
@data_option(required=True, help="The images that the bundle was trained on, or some of them.")
def learn(bundle, data) -> None:
    """Teach a bundle what its training images are like.

    `dermqueue bundle` does this for new bundles. Writes features.safetensors, and records it in the manifest and on
    the card; results then warn of photographs that are unlike these images. The weights stay as they are, but the
    bundle's digest changes.
    """
    from worker.training.bundling import add_familiarity

    with progress() as on_progress:
        add_familiarity(bundle, data, on_progress)
    click.echo(f"The bundle in {bundle} knows its training images. Next: dermqueue gate measure --help")


@gate.command("measure")
@click.option("--bundle", required=True, help=f"The bundle to measure: {BUNDLE_NAMES}.")
@click.option(
    "--images", type=_kinds_type, multiple=True, metavar="KIND FOLDER", help="Images of one kind; can be repeated."
)
@click.option(
    "--worse",
    type=_kinds_type,
    multiple=True,
    metavar="KIND FOLDER",
    help="Good images, to be made worse (blurred, badly lit) first; can be repeated.",
)
@click.option(
    "--note", is_flag=True, help="Record in the bundle which share of --images is flagged as not dermoscopic."
)
@data_dir_option
def measure(bundle, images, worse, note, data_dir) -> None:
    """Measure how often images are warned of or rejected.

    Prints the shares of each kind with 95% intervals, and the codes.
    """
    from worker.model import choose_commands_device, load_model
    from worker.training.bundling import note_flags
    from worker.training.gate import flag_images, flag_worse

    if not (images or worse):
        raise click.UsageError("Give --images or --worse.")
    if note and is_remote(bundle):
        raise click.UsageError("--note writes to the bundle, and one in S3 is only read: give a folder.")
    with opened_bundle(bundle, data_dir) as folder:
        model = load_model(folder, choose_commands_device())
        with progress() as on_progress:
            flags = [flag_images(model, *kind, on_progress) for kind in images]
            made_worse = [each for kind in worse for each in flag_worse(model, *kind, on_progress)]
        _print_flags([*flags, *made_worse])
        if note:
            note_flags(folder, flags)
            click.echo(f"The figures are recorded in {folder}.")


def _print_flags(flags) -> None:
    table = Table("images", "n", "flagged", "95% interval", "by code")
    for each in flags:
        figure, codes = each.flagged, sorted({code for said in each.codes for code in said})
        by_code = ", ".join(f"{code} {each.of(code).value:.1%}" for code in codes)
        table.add_row(
            each.kind, str(figure.n), f"{figure.value:.1%}", f"{figure.low:.1%} to {figure.high:.1%}", by_code
        )
    make_console().print(table)


COMMANDS = (gate,)
