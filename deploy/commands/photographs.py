"""Commands for a clinic: submit photographs, watch them, fetch results."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from api.words import say_warning
from deploy.client import Client, Refused, Unanswered, find_connection
from deploy.commands import data_dir_option, file_type
from deploy.terminal import make_console, make_progress
from shared.domain import CLASSES, NOTICE, REFERENCE_LENGTH, Priority

_AT_ONCE = 4
_REFRESH_S = 1.0
_STYLE = {"succeeded": "green", "rejected": "yellow", "failed": "red", "refused": "yellow", "unknown": "red"}


def connection_options(command):
    """Add --url, --key and --data-dir: where the API is."""
    for option in (
        click.option("--key", envvar="DERMQUEUE_KEY", help="An API key; else the local stack's. [env: DERMQUEUE_KEY]"),
        click.option(
            "--url", envvar="DERMQUEUE_URL", help="The API's URL; else the local stack's. [env: DERMQUEUE_URL]"
        ),
        data_dir_option,
    ):
        command = option(command)
    return command


@click.command()
@click.argument("files", nargs=-1, required=True, type=file_type)
@click.option("--wait", is_flag=True, help="Wait for the results and print them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one case per line, in the order of FILES.")
@click.option(
    "--priority",
    type=click.Choice([p.value for p in Priority]),
    default="routine",
    show_default=True,
    help="Urgent cases are analysed before all routine ones.",
)
@click.option("--reference", help="Your own name for the case(s); the file's name if unset. No personal data.")
@connection_options
@click.pass_context
def submit(ctx, files, wait, as_json, priority, reference, url, key, data_dir) -> None:
    """Submit photographs, one case each.

    If the clinic has reached its limit of waiting cases, this waits until some are finished, then continues.
    Ctrl-C ends the sending, and shows what was accepted. Exits with 1 if a photograph was not or, with --wait, a case
    ended without a result.

    \b
    Examples:
      dermqueue submit lesion.jpg --wait
      dermqueue submit *.jpg --priority urgent --json > cases.jsonl
    """
    client = Client(find_connection(url, key, data_dir))
    console = make_console(stderr=as_json)
    names = [click.format_filename(file, shorten=True) for file in files]
    try:
        cases = submit_files(client, files, console, reference=reference, priority=priority)
    except SendingInterrupted as interruption:
        cases, wait = interruption.cases, False
    if wait:
        try:
            cases = follow_cases(client, cases, console)
        except (Refused, KeyboardInterrupt) as error:
            reason = f": {error}" if isinstance(error, Refused) else ""
            console.print(f"No longer waiting{reason}. The cases continue; these are their ids:")
            for name, case in zip(names, cases, strict=True):
                console.print(f"{name}: {case['id'] or case['state']}")
    if as_json:
        for file, case in zip(files, cases, strict=True):
            click.echo(json.dumps({"file": str(file), **case}))
    else:
        console.print(case_table(names, cases))
        explain_problems(console, names, cases)
    good = ("succeeded",) if wait else ("queued", "running", "succeeded")
    ctx.exit(0 if all(case["state"] in good for case in cases) else 1)


@click.command()
@click.option("--once", is_flag=True, help="Print the table once and exit.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many cases to show.")
@connection_options
def watch(once, limit, url, key, data_dir) -> None:
    """Watch the newest cases until Ctrl-C."""
    client = Client(find_connection(url, key, data_dir))

    def newest() -> Table:
        cases = client.list_cases(limit)
        return case_table([case["reference"] or "" for case in cases], cases)

    console = make_console()
    if once:
        console.print(newest())
        return
    try:
        with Live(newest(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_REFRESH_S)
                live.update(newest(), refresh=True)
    except KeyboardInterrupt:
        return


@click.command()
@click.argument("case_id")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The folder to write to.")
@click.option(
    "--class",
    "class_name",
    type=click.Choice(CLASSES),
    default="melanoma",
    show_default=True,
    help="The diagnosis whose heatmap to fetch.",
)
@click.option(
    "--style",
    type=click.Choice(["overlay", "heatmap", "raw"]),
    default="overlay",
    show_default=True,
    help="The heatmap on the photograph, alone, or as raw numbers.",
)
@connection_options
def fetch(case_id, out, class_name, style, url, key, data_dir) -> None:
    """Fetch a case's result and heatmap as files.

    Writes CASE_ID.json and CASE_ID-<class>-<style>.png (raw: .npy).
    """
    client = Client(find_connection(url, key, data_dir))
    case = client.read_case(case_id)
    out.mkdir(parents=True, exist_ok=True)
    result = out / f"{case['id']}.json"
    result.write_text(json.dumps(case, indent=2) + "\n")
    click.echo(result)
    if case["result"] is None:
        reason = case["error"]["detail"] if case["error"] else "There is no heatmap yet."
        raise click.ClickException(f"The case is {case['state']}. {reason}")
    heatmap = out / f"{case['id']}-{class_name}-{style}.{'npy' if style == 'raw' else 'png'}"
    heatmap.write_bytes(client.read_heatmap(case_id, class_name, style))
    click.echo(heatmap)


@click.command()
@click.argument("case_id")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write; else CASE_ID.pdf.")
@connection_options
def report(case_id, out, url, key, data_dir) -> None:
    """Fetch a case's result as one page of PDF."""
    data = Client(find_connection(url, key, data_dir)).read_report(case_id)
    out = out or Path(f"{case_id}.pdf")
    out.write_bytes(data)
    click.echo(out)


class SendingInterrupted(KeyboardInterrupt):
    """Ctrl-C while photographs were being sent. `cases` has an entry for every file, as `submit_files` returns them."""

    def __init__(self, cases: list[dict]):
        self.cases = cases


def submit_files(
    client: Client, files: Sequence[Path], console: Console, reference: str | None, **fields
) -> list[dict]:
    """Submit every file; one without a case becomes an entry of state `refused` or `unknown`, with the reason.

    Raises:
        SendingInterrupted: by Ctrl-C; the entry of a file that was not sent has the state `not sent`.
    """

    def send(file: Path) -> dict:
        name = click.format_filename(file, shorten=True)[:REFERENCE_LENGTH] if reference is None else reference
        try:
            return client.submit(file, reference=name, **fields)
        except Unanswered as error:
            detail = f"{error.detail} It may have been accepted: see `dermqueue watch` before you send it again."
            return _without_case("unknown", error.code, detail)
        except Refused as error:
            return _without_case("refused", error.code, error.detail)
        except OSError as error:
            return _without_case("refused", "file_unreadable", f"The file cannot be read: {error.strerror}.")

    with make_progress(console) as progress, ThreadPoolExecutor(_AT_ONCE) as pool:
        task = progress.add_task("submitting", total=len(files))
        sent = [pool.submit(send, file) for file in files]
        try:
            for case in sent:
                case.result()
                progress.advance(task)
        except KeyboardInterrupt as error:
            client.stop()  # or we would wait for the pool's calls, which may wait for room
            pool.shutdown(cancel_futures=True)
            not_sent = _without_case("not sent", "interrupted", "It was not sent.")
            raise SendingInterrupted([not_sent if case.cancelled() else case.result() for case in sent]) from error
    return [case.result() for case in sent]


def _without_case(state: str, code: str, detail: str) -> dict:
    return {"id": None, "state": state, "result": None, "error": {"code": code, "detail": detail}}


def follow_cases(
    client: Client, cases: Sequence[dict], console: Console, before_each_poll: Callable[[], None] = lambda: None
) -> list[dict]:
    """Wait until every accepted case is final; return them in the same order."""
    accepted = [case["id"] for case in cases if case["id"]]
    final = {}
    with make_progress(console) as progress:
        task = progress.add_task("analysing", total=len(accepted))
        for case in client.follow(accepted, before_each_poll):
            final[case["id"]] = case
            progress.advance(task)
    return [final.get(case["id"], case) for case in cases]


def case_table(names: Sequence[str], cases: Sequence[dict], heatmaps: Sequence[str] | None = None) -> Table:
    """Return a table of file, case, warnings, state, probabilities and decision; or heatmaps' files in place of cases.

    A case's id fits on a terminal of 80 columns.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, caption=NOTICE, caption_justify="left")
    table.add_column("file" if heatmaps else "file, case", overflow="fold")
    for column in ("state", "melanoma", "seb. ker.", "nevus", "decision"):
        table.add_column(column, no_wrap=True)
    if heatmaps:
        table.add_column("heatmap", overflow="fold")
    for position, (name, case) in enumerate(zip(names, cases, strict=True)):
        row = [name, Text(case["state"], _STYLE.get(case["state"], "default"))]
        if not heatmaps and case["id"]:
            row[0] = f"{name}\n{case['id']}" if name else case["id"]
        if result := case["result"]:
            if result["warnings"]:
                row[0] = f"{row[0]}\n! {', '.join(result['warnings'])}"
            row += [f"{result['probabilities'][c]:.3f}" for c in CLASSES] + [result["decision"]]
        else:
            row += ["", "", "", ""]
        table.add_row(*row, *([heatmaps[position]] if heatmaps else []))
    return table


def explain_problems(console: Console, names: Sequence[str], cases: Sequence[dict]) -> None:
    """Print why cases have no result, or what a result warns of, and what to do about it."""
    for name, case in zip(names, cases, strict=True):
        if case["error"]:
            console.print(f"{name}: {case['error']['detail']} [{case['error']['code']}]")
        for code in case["result"]["warnings"] if case["result"] else ():
            console.print(f"{name}: {say_warning(code)} [{code}]")


COMMANDS = (submit, watch, fetch, report)
