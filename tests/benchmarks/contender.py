"""Those who are timed side by side, and the rounds in which they take turns."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import click

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


def compete(entries: Sequence[tuple[Contender, Piles]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return photographs per second by pile and contender, one figure per round.

    Contenders take turns, since the machine drifts, and only one of them runs at a time. Each is started anew, and
    warmed up with some of a pile before that pile is timed.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(1, rounds + 1):
        for contender, piles in entries:
            with contender.running() as drain:
                for name, photographs in piles.items():
                    drain(photographs[:WARM_UP])
                    rate = len(photographs) / drain(photographs)
                    found.setdefault(name, {}).setdefault(contender.name, []).append(rate)
                    click.echo(f"round {number} of {rounds}, {name}: {contender.name} {rate:.1f} photographs/s")
    return found
