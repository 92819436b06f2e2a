"""Those who are timed side by side, and the rounds in which they take turns."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import click

from deploy.embedded.supervisor import StartFailed

WARM_UP = 16
"""Photographs of a pile that are finished before it is timed: one batch."""

Piles = Mapping[str, Sequence[Path]]
"""Photographs by the name of what is measured with them."""


@dataclass(frozen=True)
class Contender:
    """Somebody who can finish a pile of photographs.

    `running()` starts it warm and yields `drain(photographs)`, which returns the seconds until every one is classified
    and, but for the limit, has its overlay.
    """

    name: str
    running: Callable[[], AbstractContextManager[Callable[[Sequence[Path]], float]]]
    is_ours: bool = True
    """Of others it is said that they do not start here; what is ours has to."""


@dataclass(frozen=True)
class Rounds:
    """Photographs per second by pile and contender, one figure per round, and what those said that did not start."""

    rates: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    not_started: dict[str, str] = field(default_factory=dict)

    def note(self, pile: str, name: str, rate: float) -> None:
        self.rates.setdefault(pile, {}).setdefault(name, []).append(rate)


def compete(entries: Sequence[tuple[Contender, Piles]], rounds: int) -> Rounds:
    """Let contenders take turns, since the machine drifts, and only one of them run at a time.

    Each is started anew, and warmed up with some of a pile before that pile is timed.
    """
    found = Rounds()
    for number in range(1, rounds + 1):
        for contender, piles in entries:
            if contender.name in found.not_started:
                continue
            try:
                with contender.running() as drain:
                    for name, photographs in piles.items():
                        drain(photographs[:WARM_UP])
                        rate = len(photographs) / drain(photographs)
                        found.note(name, contender.name, rate)
                        click.echo(f"round {number} of {rounds}, {name}: {contender.name} {rate:.1f} photographs/s")
            except StartFailed as error:
                if contender.is_ours:
                    raise
                found.not_started[contender.name] = error.detail
                click.echo(f"{contender.name} does not start: {error.detail}")
    return found
