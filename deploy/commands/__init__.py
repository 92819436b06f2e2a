"""The subcommands of `dermqueue`, by what they are for."""

from pathlib import Path

import click

from shared.settings import DEFAULT_DATA_DIR

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API would answer.")
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="The local stack's folder.",
)
