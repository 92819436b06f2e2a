"""Commands that back up the local stack to a file and restore it from one."""

import signal
from collections.abc import Callable
from pathlib import Path

import click

from deploy.backup import Report, back_up, restore
from deploy.commands import data_dir_option, file_type
from deploy.terminal import make_console, make_progress, print_event


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@data_dir_option
@click.pass_context
def backup_command(ctx: click.Context, file: Path, data_dir: Path) -> None:
    """Back up the local stack to a file.

    FILE holds the database, the keys, every photograph and heatmap, as they were at one moment; the stack may keep
    running and accepting cases. It holds patients' photographs and API keys, unencrypted. Uploads of which no case was
    made are left out.

    Exits with 1 if a photograph or heatmap is missing; the rest is saved all the same. Back up servers given by URL
    with their own tools.

    \b
    Example:
      dermqueue backup /mnt/safe/dermqueue-$(date +%F).tar
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is half written is removed
    report = _with_progress(lambda track: back_up(data_dir, file, print_event, track))
    click.echo(f"{_describe(report)} saved in {file} ({file.stat().st_size / 1e6:.1f} MB).")
    click.echo("It holds patients' photographs and API keys, unencrypted: protect it as you protect the stack.")
    _explain_missing(ctx, report)


@click.command("restore")
@click.argument("file", type=file_type)
@data_dir_option
@click.pass_context
def restore_command(ctx: click.Context, file: Path, data_dir: Path) -> None:
    """Restore a backup into a new local stack.

    DATA_DIR must hold no stack. The whole FILE is checked before anything is written, and at the end every photograph
    and heatmap is read back. If the command is interrupted, run it again. Exits with 1 if a photograph or heatmap is
    missing.

    Whatever was ended after the backup is back: delete the deleted cases, revoke the revoked keys and remove the
    removed webhooks again.

    \b
    Example:
      dermqueue restore /mnt/safe/dermqueue-2026-01-31.tar --data-dir restored
      dermqueue up --data-dir restored
    """
    report = _with_progress(lambda track: restore(file, data_dir, print_event, track))
    click.echo(f"{_describe(report)} restored and read back. Next: dermqueue up --data-dir {data_dir}")
    click.echo(
        "Whatever was ended after the backup is back: deleted cases, revoked keys (dermqueue key list), removed"
        " webhooks (dermqueue webhook list). End it again."
    )
    _explain_missing(ctx, report)


def _with_progress(work: Callable) -> Report:
    with make_progress(make_console()) as progress:
        return work(lambda items, what: progress.track(items, description=what))


def _describe(report: Report) -> str:
    return f"{report.cases} cases with {report.objects} photographs and heatmaps"


def _explain_missing(ctx: click.Context, report: Report) -> None:
    for promise in report.missing:
        click.echo(f"Case {promise.case_id}: its {promise.what} is missing or damaged.", err=True)
    ctx.exit(1 if report.missing else 0)


COMMANDS = (backup_command, restore_command)
