"""The demonstration: a few sample photographs, from start to finish, on this machine."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from deploy.client import Client, find_connection
from deploy.commands import data_dir_option
from deploy.commands.photographs import case_table, explain_problems, follow_cases, submit_files
from deploy.commands.serve import port_type
from deploy.embedded.program import find_free_port
from deploy.stack import CONNECTION, local_stack
from deploy.terminal import make_console, print_event
from shared.errors import ConfigurationInvalid

SAMPLES = Path(__file__).parent.parent / "samples"


@click.command()
@data_dir_option
@click.option("--port", type=port_type, help="The API's port; a free one if unset.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-results"),
    show_default=True,
    help="The folder to write the heatmaps to.",
)
@click.pass_context
def demo(ctx: click.Context, data_dir: Path, port: int | None, out: Path) -> None:
    """Analyse the sample photographs and print the results.

    Uses the stack that runs in DATA_DIR, or starts one and stops it at the end. The samples are eight CC0 dermoscopy
    images from the ISIC archive, four melanomas and four nevi.
    """
    console = make_console()
    files = sorted(SAMPLES.glob("*.jpg"))
    with _running_stack(data_dir, port) as tend:
        client = Client(find_connection(None, None, data_dir))
        began = time.monotonic()
        cases = follow_cases(client, submit_files(client, files, console, reference=None), console, tend)
        heatmaps = [
            _write_heatmap(client, case, out / f"{file.stem}.png") for file, case in zip(files, cases, strict=True)
        ]
        console.print(case_table([file.name for file in files], cases, heatmaps))
        explain_problems(console, [file.name for file in files], cases)
        console.print(f"{len(files)} cases in {time.monotonic() - began:.1f} s. To keep it running: dermqueue up")
    ctx.exit(0 if all(case["state"] == "succeeded" for case in cases) else 1)


@contextmanager
def _running_stack(data_dir: Path, port: int | None) -> Iterator[Callable[[], None]]:
    """Yield what keeps the stack alive if it is called now and then: nothing has to be done for another process's."""
    with ExitStack() as resources:
        try:
            stack = resources.enter_context(local_stack(data_dir, port or find_free_port(), print_event))
        except ConfigurationInvalid as error:
            if error.code != "data_dir_in_use" or not (data_dir / CONNECTION).exists():
                raise
            click.echo(f"Using the stack that runs in {data_dir}.")
            tend = _leave_it
        else:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: stops what was started
            stack.start(await_worker=True)
            tend = stack.tend
        yield tend


def _leave_it() -> None: ...


def _write_heatmap(client: Client, case: dict, path: Path) -> str:
    if case["result"] is None:
        return ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(client.read_heatmap(case["id"]))
    return str(path)


COMMANDS = (demo,)
