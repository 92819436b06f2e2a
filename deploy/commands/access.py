"""Commands for clinics and their keys. They speak to the database directly: whoever runs them holds its password."""

from pathlib import Path

import click

from deploy.commands import data_dir_option
from shared.database import open_database, read_clock
from shared.domain import Role
from shared.settings import load_settings
from shared.store import access


@click.group()
def clinic() -> None:
    """Add clinics, list them."""


@clinic.command("add")
@click.argument("name")
@data_dir_option
def clinic_add(name: str, data_dir: Path) -> None:
    """Register the clinic NAME and print its id. Give it a key with `dermqueue key add`."""
    with open_database(load_settings(data_dir).database_url).writing() as session:
        click.echo(access.add_clinic(session, name, read_clock(session)))


@clinic.command("list")
@data_dir_option
def clinic_list(data_dir: Path) -> None:
    """Print every clinic's id and name."""
    with open_database(load_settings(data_dir).database_url).reading() as session:
        for clinic_id, name in access.list_clinics(session):
            click.echo(f"{clinic_id}  {name}")


@click.group()
def key() -> None:
    """Add API keys, revoke them."""


@key.command("add")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.CLINIC.value, show_default=True)
@click.option("--clinic", "clinic_name", metavar="NAME_OR_ID", help="Whose key; required for the role clinic.")
@data_dir_option
def key_add(role: str, clinic_name: str | None, data_dir: Path) -> None:
    """Make a key and print it: the only time that it can be seen.

    \b
    Example:
      dermqueue clinic add "Clinic North"
      dermqueue key add --clinic "Clinic North"
    """
    if (role == Role.CLINIC) != (clinic_name is not None):
        raise click.UsageError("--clinic goes with the role clinic, and only with it.")
    with open_database(load_settings(data_dir).database_url).writing() as session:
        clinic_id = access.find_clinic(session, clinic_name) if clinic_name else None
        click.echo(access.add_key(session, Role(role), clinic_id, read_clock(session)))


@key.command("revoke")
@click.argument("prefix")
@data_dir_option
def key_revoke(prefix: str, data_dir: Path) -> None:
    """End a key's validity at once. PREFIX is what stands between the key's underscores; the whole key works too."""
    with open_database(load_settings(data_dir).database_url).writing() as session:
        access.revoke_key(session, prefix, read_clock(session))
    click.echo("The key is revoked.")


COMMANDS = (clinic, key)
