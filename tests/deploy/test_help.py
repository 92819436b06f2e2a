"""Every command teaches what it does and what each of its options is."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from deploy.cli import main


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


COMMANDS = dict(_commands(main))
SERVING = ("up", "demo", "api", "worker", "beat", "db")
USING = ("submit", "watch", "fetch", "report", "clinic", "key", "train", "evaluate", "bundle")
OVERSEEING = (
    "clinic set, key list, key rotate, audit list, audit verify, failed list, failed requeue, purge, queue, workers, "
    "webhook add, webhook list, webhook enable, webhook remove"
)


def test_every_promised_command_is_there():
    assert {*SERVING, *USING} <= {path[0] for path in COMMANDS}
    assert {("db", "upgrade"), ("db", "check"), ("clinic", "add"), ("key", "add"), ("key", "revoke")} <= set(COMMANDS)
    assert {("model", name) for name in ("list", "show", "verify", "use")} <= set(COMMANDS)
    assert {tuple(name.split()) for name in OVERSEEING.split(", ")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_says_what_the_command_does_and_explains_its_options(path):
    shown = CliRunner().invoke(main, [*path, "--help"])
    assert shown.exit_code == 0
    assert len(COMMANDS[path].help or "") > 20
    unexplained = [
        option.name
        for option in COMMANDS[path].params
        if isinstance(option, click.Option) and not option.help and not isinstance(option.type, click.Choice)
    ]
    assert not unexplained


@pytest.mark.parametrize(
    "path", [(), *(path for path, command in COMMANDS.items() if isinstance(command, click.Group))], ids=" ".join
)
def test_every_summary_in_a_list_of_commands_fits_into_80_columns(path):
    shown = CliRunner().invoke(main, [*path, "--help"], terminal_width=80)
    summaries = shown.output.partition("Commands:\n")[2].splitlines()
    assert summaries
    assert [line for line in summaries if line.endswith("...")] == []
