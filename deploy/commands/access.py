"""Commands for clinics and their keys. They use the database directly: whoever runs them holds its password."""

from datetime import timedelta
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from deploy.commands import changing, data_dir_option, json_option, open_database_of
from shared.database import Database, read_clock
from shared.domain import Role
from shared.store import access, cases
from shared.store.access import MOST_CASES, MOST_DAYS, Clinic, Key, MadeKey
from shared.store.worklist import COUNTED_AT_MOST

NONE = "none"


class _OrNone(click.ParamType):
    """A whole number from 1 to `most`, or the word "none"."""

    name = "number or none"

    def __init__(self, most: int):
        self._number = click.IntRange(1, most)

    def convert(self, value, param, ctx):
        return NONE if value == NONE else self._number.convert(value, param, ctx)


@click.group()
def clinic() -> None:
    """Add and list clinics, and set their limits."""


def _read_name(_context: click.Context, _parameter: click.Parameter, given: str) -> str:
    """Check a clinic's name as the API does."""
    from api.admin_schemas import Name

    try:
        return TypeAdapter(Name).validate_python(given)
    except ValidationError as error:
        raise click.BadParameter(f"{error.errors()[0]['msg'].removeprefix('Value error, ')}.") from error


@clinic.command("add")
@click.argument("name", callback=_read_name)
@json_option
@data_dir_option
def clinic_add(name: str, as_json: bool, data_dir: Path) -> None:
    """Register the clinic NAME and print its id. Give it a key with `dermqueue key add`."""
    with changing(data_dir, "clinic.added") as (session, now):
        clinic_id = access.add_clinic(session, name, now)
        added = access.read_clinic(session, clinic_id)
    click.echo(_clinic_json(added) if as_json else clinic_id)


@clinic.command("list")
@json_option
@data_dir_option
def clinic_list(as_json: bool, data_dir: Path) -> None:
    """List all clinics: id, limits, name."""
    with open_database_of(data_dir).reading() as session:
        clinics = access.list_clinics(session)
    if as_json:
        from api.admin_schemas import ClinicListOut, ClinicOut

        click.echo(ClinicListOut(clinics=[ClinicOut.of(one) for one in clinics]).model_dump_json())
        return
    for one in clinics:
        waiting = "default" if one.waiting_limit is None else one.waiting_limit
        kept = "for ever" if one.retention_days is None else f"{one.retention_days} days"
        click.echo(f"{one.id}  waiting limit {waiting:<8}  kept {kept:<10}  {one.name}")


@clinic.command("set")
@click.argument("name_or_id")
@click.option(
    "--waiting-limit",
    type=_OrNone(MOST_CASES),
    metavar="N|none",
    help="Cases that may wait at once; none: the default limit.",
)
@click.option(
    "--retention-days",
    type=_OrNone(MOST_DAYS),
    metavar="N|none",
    help="Days that a case is kept after it ended; none: for ever.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation before shortening the retention.")
@json_option
@data_dir_option
def clinic_set(name_or_id: str, yes: bool, as_json: bool, data_dir: Path, **limits: int | str | None) -> None:
    """Change a clinic's limits.

    \b
    Example:
      dermqueue clinic set "Clinic North" --waiting-limit 500 --retention-days 90
    """
    given = {name: None if value == NONE else value for name, value in limits.items() if value is not None}
    if not given:
        raise click.UsageError("Give --waiting-limit, --retention-days or both.")
    if not yes:
        _ask_retention(open_database_of(data_dir), name_or_id, given.get("retention_days"))
    with changing(data_dir, "clinic.changed") as (session, _):
        clinic_id = access.find_clinic(session, name_or_id)
        access.set_limits(session, clinic_id, **given)
        changed = access.read_clinic(session, clinic_id)
    click.echo(_clinic_json(changed) if as_json else "Limits changed.")


def _ask_retention(database: Database, name_or_id: str, days: int | None) -> None:
    with database.reading() as session:
        clinic = access.read_clinic(session, access.find_clinic(session, name_or_id))
        if not access.shortens(clinic.retention_days, days):
            return
        count = cases.count_outdated(session, clinic.id, days, read_clock(session), COUNTED_AT_MOST)
    counted = f"{count} or more" if count == COUNTED_AT_MOST else count
    click.confirm(
        f"Cases of {clinic.name} that the next purge will erase for good: {counted}. Continue?", abort=True, err=True
    )


def _clinic_json(clinic: Clinic) -> str:
    from api.admin_schemas import ClinicOut

    return ClinicOut.of(clinic).model_dump_json()


def _tell_key(made: MadeKey, as_json: bool) -> None:
    from api.admin_schemas import KeyMadeOut

    click.echo(KeyMadeOut.of(made).model_dump_json() if as_json else made.key)


@click.group()
def key() -> None:
    """Add, list, rotate and revoke API keys."""


@key.command("add")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.CLINIC.value,
    show_default=True,
    help="What the key may do: send cases (clinic), review them all (reviewer), or run the service (admin).",
)
@click.option(
    "--clinic", "clinic_name", metavar="NAME_OR_ID", help="The clinic that gets the key; required for the role clinic."
)
@click.option("--days", type=click.IntRange(1, MOST_DAYS), help="Days until the key expires; never if unset.")
@json_option
@data_dir_option
def key_add(role: str, clinic_name: str | None, days: int | None, as_json: bool, data_dir: Path) -> None:
    """Make a key and print it. It cannot be shown again.

    \b
    Example:
      dermqueue clinic add "Clinic North"
      dermqueue key add --clinic "Clinic North"
    """
    if (role == Role.CLINIC) != (clinic_name is not None):
        raise click.UsageError("--clinic is required for the role clinic, and not allowed for any other.")
    with changing(data_dir, "key.added") as (session, now):
        clinic_id = access.find_clinic(session, clinic_name) if clinic_name else None
        made = access.add_key(session, Role(role), clinic_id, now, access.expires_after(days, now))
    _tell_key(made, as_json)


@key.command("list")
@json_option
@data_dir_option
def key_list(as_json: bool, data_dir: Path) -> None:
    """List all keys: prefix, role, last use, validity, clinic."""
    with open_database_of(data_dir).reading() as session:
        names = {one.id: one.name for one in access.list_clinics(session)}
        keys = access.list_keys(session, read_clock(session))
    if as_json:
        from api.admin_schemas import KeyListOut, KeyOut

        click.echo(KeyListOut(keys=[KeyOut.of(one) for one in keys]).model_dump_json())
        return
    for one in keys:
        used = f"{one.last_used_at:%Y-%m-%d %H:%M}" if one.last_used_at else "never"
        clinic_name = names.get(one.clinic_id, "")
        click.echo(f"{one.prefix}  {one.role:<8}  used {used:<16}  {_validity(one):<24}  {clinic_name}")


def _validity(key: Key) -> str:
    if key.state == "revoked" or key.expires_at is None:
        return key.state
    return f"{'valid until' if key.state == 'valid' else key.state} {key.expires_at:%Y-%m-%d}"


@key.command("rotate")
@click.argument("prefix")
@click.option(
    "--overlap-days",
    type=click.IntRange(0, MOST_DAYS),
    default=7,
    show_default=True,
    help="Days that the old key stays valid.",
)
@click.option("--days", type=click.IntRange(1, MOST_DAYS), help="Days until the new key expires; never if unset.")
@json_option
@data_dir_option
def key_rotate(prefix: str, overlap_days: int, days: int | None, as_json: bool, data_dir: Path) -> None:
    """Replace a key by a new one, and print that.

    The old one expires after the overlap. PREFIX is the part between the key's first two underscores; the whole key
    works, too.
    """
    overlap = timedelta(days=overlap_days)
    with changing(data_dir, "key.rotated") as (session, now):
        made = access.rotate_key(session, prefix, now, overlap, access.expires_after(days, now))
    _tell_key(made, as_json)


@key.command("revoke")
@click.argument("prefix")
@json_option
@data_dir_option
def key_revoke(prefix: str, as_json: bool, data_dir: Path) -> None:
    """Revoke a key at once.

    PREFIX is the part between the key's first two underscores; the whole key works, too.
    """
    with changing(data_dir, "key.revoked") as (session, now):
        role = access.revoke_key(session, prefix, now)
    click.echo("{}" if as_json else "Key revoked.")
    if role is Role.CLINIC:
        click.echo("Webhooks that it added stay: look at dermqueue webhook list.", err=True)


COMMANDS = (clinic, key)
