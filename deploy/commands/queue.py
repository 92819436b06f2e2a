"""Commands for an admin's daily work: the queue, the workers, the webhooks. They use the database directly."""

from datetime import datetime
from pathlib import Path
from uuid import UUID

import click

from deploy.commands import changing, data_dir_option, json_option, open_database_of
from shared.database import read_clock
from shared.settings import load_settings
from shared.store import access, webhooks
from shared.webhook_address import check_webhook_url


@click.command()
@click.option("--hours", type=click.IntRange(1, 168), default=24, show_default=True, help="Hours to look back.")
@click.option(
    "--minutes",
    type=click.IntRange(1, 10_080),
    default=30,
    show_default=True,
    help="Minutes within which to clear the backlog.",
)
@json_option
@data_dir_option
def queue(hours: int, minutes: int, as_json: bool, data_dir: Path) -> None:
    """Print the backlog and how many workers it needs.

    Also the results of the last hours.
    """
    from api.admin_schemas import QueueQuery
    from api.overview import describe_queue

    with open_database_of(data_dir).reading() as session:
        found = describe_queue(session, QueueQuery(hours=hours, minutes=minutes))
        now = read_clock(session)
    if as_json:
        click.echo(found.model_dump_json())
        return
    click.echo(f"{found.waiting} waiting, {found.running} running, oldest {_age(found.oldest, now)}")
    needed = "unknown until a worker has measured its rate" if found.workers_needed is None else found.workers_needed
    click.echo(f"workers needed to clear the backlog in {minutes} minutes: {needed}")
    for load in found.clinics:
        click.echo(
            f"{load.waiting:>7} waiting {load.running:>5} running  oldest {_age(load.oldest, now):<9}  {load.name}"
        )
    for hour in found.hours:
        counts = f"{hour.succeeded:>7} succeeded {hour.rejected:>5} rejected {hour.failed:>5} failed"
        click.echo(f"{hour.start:%Y-%m-%d %H:%M}  {counts}  median {hour.median_s:.1f} s, p95 {hour.p95_s:.1f} s")


@click.command()
@json_option
@data_dir_option
def workers(as_json: bool, data_dir: Path) -> None:
    """List the workers seen in the last day.

    Columns: name, state, device, batch size, rate, model.
    """
    from api.admin_schemas import WorkerOut, WorkersOut
    from shared.store.workers import list_workers

    with open_database_of(data_dir).reading() as session:
        now = read_clock(session)
        known = [WorkerOut.of(worker) for worker in list_workers(session, now)]
    if as_json:
        click.echo(WorkersOut(workers=known).model_dump_json())
        return
    for worker in known:
        rate = "not measured" if worker.images_per_minute is None else f"{worker.images_per_minute:.0f} images/min"
        state = "alive" if worker.alive else f"gone for {_age(worker.seen_at, now)}"
        what = f"{worker.device}  batch {worker.batch_size:<3}  {rate:<16}  {worker.model}"
        click.echo(f"{worker.name:<30}  {state:<14}  {what}")


@click.group()
def webhook() -> None:
    """Manage webhooks, which tell clinics that cases ended."""


@webhook.command("list")
@json_option
@data_dir_option
def webhook_list(as_json: bool, data_dir: Path) -> None:
    """List all webhooks.

    Columns: id, state, messages by outcome, last error, clinic, URL.
    """
    from api.webhook_schemas import WebhookListOut, WebhookOut

    with open_database_of(data_dir).reading() as session:
        known = webhooks.list_webhooks(session, None)
        names = {clinic.id: clinic.name for clinic in access.list_clinics(session)}
    if as_json:
        click.echo(WebhookListOut(webhooks=[WebhookOut.of(one) for one in known]).model_dump_json())
        return
    for one in known:
        state = "disabled" if one.disabled_at else "enabled"
        counts = f"{one.pending} pending, {one.delivered} delivered, {one.given_up} given up"
        click.echo(f"{one.id}  {state:<8}  {counts}  {one.last_error or '-'}  {names[one.clinic_id]}  {one.url}")


@webhook.command("add")
@click.argument("url")
@click.option("--clinic", "clinic_name", metavar="NAME_OR_ID", required=True, help="The clinic whose cases it reports.")
@json_option
@data_dir_option
def webhook_add(url: str, clinic_name: str, as_json: bool, data_dir: Path) -> None:
    """Send a clinic's final states to URL, and print the signing secret. It cannot be shown again."""
    from api.webhook_schemas import WebhookMadeOut

    check_webhook_url(url, load_settings(data_dir).local_webhooks)
    with changing(data_dir, "webhook.added") as (session, now):
        webhook_id, secret = webhooks.add_webhook(session, access.find_clinic(session, clinic_name), url, now)
    click.echo(WebhookMadeOut(id=webhook_id, url=url, secret=secret).model_dump_json() if as_json else secret)


@webhook.command("remove")
@click.argument("webhook_id", type=click.UUID)
@data_dir_option
def webhook_remove(webhook_id: UUID, data_dir: Path) -> None:
    """Remove a webhook and its messages."""
    with changing(data_dir, "webhook.removed") as (session, _):
        webhooks.remove_webhook(session, None, webhook_id)
    click.echo("Webhook removed.")


@webhook.command("enable")
@click.argument("webhook_id", type=click.UUID)
@data_dir_option
def webhook_enable(webhook_id: UUID, data_dir: Path) -> None:
    """Enable a disabled webhook.

    Cases that ended meanwhile are not reported.
    """
    with changing(data_dir, "webhook.enabled") as (session, _):
        webhooks.enable_webhook(session, None, webhook_id)
    click.echo("Webhook enabled.")


def _age(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "-"
    minutes, seconds = divmod(int((now - moment).total_seconds()), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"


COMMANDS = (queue, workers, webhook)
