"""What commands show on the terminal: the console for tables, progress bars, the supervisor's events."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_WIDTH_WITHOUT_TERMINAL = 110


def make_console(stderr: bool = False) -> Console:
    """Return a console that shows brackets and colons as they are, since file names and references may have them.

    It is wide enough for tables even when the output goes to a file or a pipe.
    """
    console = Console(stderr=stderr, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console


def make_progress(console: Console) -> Progress:
    """Return a progress bar that shows the items done and the time taken."""
    columns = TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console)


@contextmanager
def progress() -> Iterator[Callable[..., None]]:
    """Show a progress bar with the time left for each task.

    Yields the callback that moves it, called with the task, how much of it is done, how much there is, and optionally
    a description to show in place of the task's name.
    """
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as shown:
        bars = {}

        def on_step(what: str, done: int, total: int, description: str | None = None) -> None:
            if done == 1 or what not in bars:  # what a resumed run had already done must not distort the time left
                bars[what] = shown.add_task(what, total=total, completed=done)
            shown.update(bars[what], completed=done, total=total, description=description)

        yield on_step


def print_event(name: str, event: str, detail: str) -> None:
    """Show an event of the supervisor, which a full disk or a closed terminal must not end."""
    with suppress(OSError):
        click.echo(f"{name:<10} {event} {detail}", err=event in ("broken", "died", "killed"))
