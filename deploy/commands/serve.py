"""Commands that run something: the whole stack, or one of its processes."""

import signal
from pathlib import Path

import click

from deploy.commands import data_dir_option
from deploy.stack import CONNECTION, local_stack
from deploy.terminal import print_event
from shared.database import open_database
from shared.dispatch import Doorbell, make_celery
from shared.migrations import check_upgraded, find_drift, upgrade
from shared.settings import load_settings
from shared.storage import open_object_store
from worker.progress import has_stalled, note_progress

port_type = click.IntRange(1, 65535)
port_option = click.option("--port", type=port_type, default=8000, show_default=True, help="The API's port.")


@click.command()
@data_dir_option
@port_option
def up(data_dir: Path, port: int) -> None:
    """Run everything on this machine until Ctrl-C.

    Starts the servers that no DERMQUEUE_* variable names (Valkey, an S3 server, SQLite), the API, a worker and beat,
    and restarts what dies. Once everything is ready, DATA_DIR/connection.json holds the address and one key per role.
    """
    with local_stack(data_dir, port, print_event) as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stack.stop_event.set())
        connection = stack.start()
        if not stack.stop_event.is_set():
            click.echo(f"ready      {connection['base_url']}  (keys: {data_dir / CONNECTION}; stop with Ctrl-C)")
        stack.run()
        click.echo("stopping")


@click.command()
@data_dir_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@port_option
def api(data_dir: Path, host: str, port: int) -> None:
    """Run the API under gunicorn."""
    from api.shared_counters import share_counters

    settings = load_settings(data_dir)
    share_counters(settings.api_processes)
    from api.server import run_api  # Flask is loaded only where it serves

    open_object_store(settings).check_encryption()
    run_api(settings, host, port)


@click.command()
@data_dir_option
@click.option(
    "--progress-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file to touch whenever a task is done; `dermqueue worker-health` looks at it.",
)
@click.pass_context
def worker(ctx: click.Context, data_dir: Path, progress_file: Path | None) -> None:
    """Run one analysis worker. Start one per GPU; all share the queue.

    On SIGTERM it finishes its current batch. DERMQUEUE_MODEL chooses the model, DERMQUEUE_DEVICE the device. A worker
    uses the first GPU that it sees: CUDA_VISIBLE_DEVICES=1 gives it the second.
    """
    if progress_file:
        note_progress(progress_file)  # first, since it removes an earlier process's: torch takes seconds to load
    from worker.main import run_worker  # torch is loaded only where it analyses

    settings = load_settings(data_dir)
    open_object_store(settings).check_encryption()
    ctx.exit(run_worker(settings))


@click.command("worker-health")
@click.argument("progress_file", type=click.Path(dir_okay=False, path_type=Path))
@data_dir_option
def worker_health(progress_file: Path, data_dir: Path) -> None:
    """Exit with 1 if a worker is stuck.

    It is stuck if, for three lease times, it has not touched its PROGRESS_FILE although a case was waiting.
    """
    settings = load_settings(data_dir)
    limit_s = 3 * settings.lease_s
    if has_stalled(progress_file, limit_s, open_database(settings.database_url), Doorbell(make_celery(settings))):
        raise click.ClickException(f"Cases wait, but this worker has finished nothing for {limit_s:.0f} s.")
    click.echo("The worker is making progress, or there is nothing that it could do.")


@click.command()
@data_dir_option
@click.option(
    "--schedule-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file that records what ran when, so that a missed daily purge is made up for. For machines that are off at"
    " night.",
)
def beat(data_dir: Path, schedule_file: Path | None) -> None:
    """Run the scheduler of sweeps, webhook messages and purges. One is enough; two do no harm."""
    scheduler = f"deploy.schedulers:{'File' if schedule_file else 'Memory'}Scheduler"
    celery = make_celery(load_settings(data_dir))
    celery.Beat(scheduler=scheduler, schedule=str(schedule_file), loglevel="INFO", quiet=True).run()


@click.group()
def db() -> None:
    """Upgrade the database's tables, or check them."""


@db.command("upgrade")
@data_dir_option
def db_upgrade(data_dir: Path) -> None:
    """Apply every pending migration."""
    upgrade(open_database(load_settings(data_dir).database_url))
    click.echo("The database is up to date.")


@db.command("check")
@data_dir_option
def db_check(data_dir: Path) -> None:
    """Check that the tables are what this version expects.

    Exits with 1 if not.
    """
    database = open_database(load_settings(data_dir).database_url)
    check_upgraded(database)
    if drift := find_drift(database):
        raise click.ClickException(f"The tables differ from what this version expects: {drift}")
    click.echo("The tables are what this version expects.")


COMMANDS = (up, api, worker, worker_health, beat, db)
