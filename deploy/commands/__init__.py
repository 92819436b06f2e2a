"""The subcommands of `dermqueue`, by purpose."""

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from uuid import UUID

import click
from sqlalchemy.orm import Session

from shared.database import Database, open_database
from shared.migrations import check_upgraded
from shared.settings import DEFAULT_DATA_DIR, load_settings
from shared.store import trail

file_type = click.Path(exists=True, dir_okay=False, path_type=Path)
folder_type = click.Path(exists=True, file_okay=False, path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API returns it.")
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="The local stack's data folder.",
)


def data_option(**details):
    """Return the option that names labelled images."""
    return click.option("--data", type=(folder_type, file_type), multiple=True, metavar="IMAGES LABELS", **details)


def open_database_of(data_dir: Path) -> Database:
    """Open the database that the settings name.

    Raises:
        ConfigurationInvalid: `database_not_upgraded`.
        Unavailable: it cannot be reached.
    """
    database = open_database(load_settings(data_dir).database_url)
    check_upgraded(database)
    return database


def changing(
    data_dir: Path, action: str, case_id: UUID | None = None
) -> AbstractContextManager[tuple[Session, datetime]]:
    """Do as `trail.audited` for the operator, in the database that the settings name."""
    return trail.audited(open_database_of(data_dir), trail.OPERATOR, action, case_id)
