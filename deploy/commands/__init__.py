"""The subcommands of `dermqueue`, by what they are for."""

from pathlib import Path

import click

from shared.settings import DEFAULT_DATA_DIR

file_type = click.Path(exists=True, dir_okay=False, path_type=Path)
folder_type = click.Path(exists=True, file_okay=False, path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API would answer.")
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="The local stack's folder.",
)


def data_option(**details):
    """Return the option that names labelled images."""
    return click.option("--data", type=(folder_type, file_type), multiple=True, metavar="IMAGES LABELS", **details)
