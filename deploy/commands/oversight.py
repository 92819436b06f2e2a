"""Commands for operators: the audit trail, failed cases, the daily purge. They use the database directly."""

import re
from pathlib import Path
from uuid import UUID

import click

from deploy.commands import changing, data_dir_option, json_option, open_database_of
from shared.dispatch import Doorbell, make_celery
from shared.domain import State
from shared.settings import load_settings
from shared.storage import open_object_store
from shared.store import cases, trail


@click.group()
def audit() -> None:
    """Read the audit trail, or check it for tampering."""


@audit.command("list")
@click.option("--case", "case_id", type=click.UUID, help="Only entries about this case.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many entries at most."
)
@json_option
@data_dir_option
def audit_list(case_id: UUID | None, limit: int, as_json: bool, data_dir: Path) -> None:
    """List the newest entries: position, time, action, case, actor."""
    from api.admin_schemas import AuditPageOut

    with open_database_of(data_dir).reading() as session:
        page = AuditPageOut.of(trail.list_entries(session, case_id, before=None, limit=limit))
    if as_json:
        click.echo(page.model_dump_json())
        return
    for row in page.entries:
        about, who = str(row.case_id or "-"), f"{row.role or '-'} {row.key_id or ''}"
        click.echo(f"{row.position:>8}  {row.at:%Y-%m-%d %H:%M:%S}  {row.action:<15}  {about:<36}  {who}")


def _read_hash(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str | None:
    """Refuse what no entry's hash can be: a typing error must not look like tampering."""
    if given is not None and not re.fullmatch("[0-9a-f]{64}", given := given.strip().lower()):
        raise click.BadParameter("a hash has 64 hexadecimal digits. Copy it again.")
    return given


@audit.command("verify")
@click.option(
    "--head",
    "expected_head",
    metavar="HASH",
    callback=_read_hash,
    help="A hash that was noted earlier and must still be in the chain.",
)
@data_dir_option
def audit_verify(expected_head: str | None, data_dir: Path) -> None:
    """Recompute every entry's hash to find tampering.

    Exits with 1 if an entry was altered or removed. Removing the newest entries leaves a valid chain: so note the
    printed hash elsewhere (the daily purge also writes it to the worker's log) and give it as --head later, when it
    must still be part of the chain.
    """
    with open_database_of(data_dir).reading() as session:
        report = trail.verify_trail(session, expected_head)
    for fault in report.faults:
        click.echo(fault, err=True)
    click.echo(f"{report.entries} entries, newest hash {report.head}")
    if report.faults:
        raise click.ClickException("The audit trail was altered.")


@click.group()
def failed() -> None:
    """List failed cases, for a person to look at, or retry them."""


@failed.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many cases at most.")
@json_option
@data_dir_option
def failed_list(limit: int, as_json: bool, data_dir: Path) -> None:
    """List the newest failed cases: id, time, reason."""
    from api.admin_schemas import FailedCaseOut, FailedListOut

    with open_database_of(data_dir).reading() as session:
        found = cases.list_cases(session, None, cases.CaseFilter(state=State.FAILED), limit)
    if as_json:
        click.echo(FailedListOut(cases=[FailedCaseOut.of(case) for case in found]).model_dump_json())
        return
    for case in found:
        click.echo(f"{case.id}  {case.finished_at:%Y-%m-%d %H:%M:%S}  {case.problem.code}  {case.problem.detail}")


@failed.command("requeue")
@click.argument("case_id", type=click.UUID)
@json_option
@data_dir_option
def failed_requeue(case_id: UUID, as_json: bool, data_dir: Path) -> None:
    """Give a failed case three new attempts.

    In batches of its own, at the end of its clinic's queue.
    """
    with changing(data_dir, "case.requeued", case_id) as (session, now):
        case = cases.requeue_case(session, case_id, now)
    Doorbell(make_celery(load_settings(data_dir))).ring()
    if as_json:
        from api.admin_schemas import FailedCaseOut

        click.echo(FailedCaseOut.of(case).model_dump_json())
        return
    click.echo("The case is queued again.")


@click.command()
@data_dir_option
def purge(data_dir: Path) -> None:
    """Run the daily purge now.

    Removes cases past their clinic's retention, expired uploads and orphaned objects. A case's objects are erased by
    the next sweep of a running worker.
    """
    from worker.housekeeping import Housekeeping

    database, store = open_database_of(data_dir), open_object_store(load_settings(data_dir))
    store.check()  # or a wrong key would only be logged, among what was removed
    Housekeeping(database, store).purge()


COMMANDS = (audit, failed, purge)
