"""Commands of those who run the service: the audit trail, failed cases, the daily purge. They speak to the database."""

from pathlib import Path
from uuid import UUID

import click

from deploy.commands import changing, data_dir_option, json_option, open_database_of
from shared.database import open_database
from shared.dispatch import Doorbell, make_celery
from shared.domain import State
from shared.settings import load_settings
from shared.storage import open_object_store
from shared.store import cases, trail


@click.group()
def audit() -> None:
    """Read the audit trail, and verify that nobody has tampered with it."""


@audit.command("list")
@click.option("--case", "case_id", type=click.UUID, help="Only what was done to this case.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at the most.")
@json_option
@data_dir_option
def audit_list(case_id: UUID | None, limit: int, as_json: bool, data_dir: Path) -> None:
    """Print the newest entries: position, time, who, what, which case."""
    from api.admin_schemas import AuditPageOut

    with open_database_of(data_dir).reading() as session:
        page = AuditPageOut.of(trail.list_entries(session, case_id, before=None, limit=limit))
    if as_json:
        click.echo(page.model_dump_json())
        return
    for row in page.entries:
        who = f"{row.role or '-'} {row.key_id or ''}"
        click.echo(f"{row.position:>8}  {row.at:%Y-%m-%d %H:%M:%S}  {row.action:<15}  {row.case_id}  {who}")


@audit.command("verify")
@click.option("--head", "expected_head", metavar="HASH", help="A hash that was noted down before; it must still stand.")
@data_dir_option
def audit_verify(expected_head: str | None, data_dir: Path) -> None:
    """Compute every entry's hash anew; exit 1 if one was altered or removed.

    Removing the newest entries leaves a sound chain. Note the printed hash elsewhere (the daily purge writes it to the
    worker's log, too) and give it as --head later: it must then still be part of the chain.
    """
    with open_database_of(data_dir).reading() as session:
        report = trail.verify_trail(session, expected_head)
    for fault in report.faults:
        click.echo(fault, err=True)
    click.echo(f"{report.entries} entries, newest hash {report.head}")
    if report.faults:
        raise click.ClickException("The audit trail is not what was written.")


@click.group()
def failed() -> None:
    """List cases that a human must look at, give them another try."""


@failed.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at the most.")
@json_option
@data_dir_option
def failed_list(limit: int, as_json: bool, data_dir: Path) -> None:
    """Print the newest failed cases: id, when it failed, why."""
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
    """Give a failed case three new attempts, alone, at the end of its clinic's queue."""
    with changing(data_dir, "case.requeued", case_id) as (session, now):
        case = cases.requeue_case(session, case_id, now)
    Doorbell(make_celery(load_settings(data_dir))).ring()
    if as_json:
        from api.admin_schemas import FailedCaseOut

        click.echo(FailedCaseOut.of(case).model_dump_json())
        return
    click.echo("The case waits again.")


@click.command()
@data_dir_option
def purge(data_dir: Path) -> None:
    """Remove now what the daily purge would: cases past their clinic's retention, expired uploads, orphaned objects.

    A case's objects are erased by the next sweep of a running worker.
    """
    from worker.housekeeping import Housekeeping

    settings = load_settings(data_dir)
    Housekeeping(open_database(settings.database_url), open_object_store(settings)).purge()


COMMANDS = (audit, failed, purge)
