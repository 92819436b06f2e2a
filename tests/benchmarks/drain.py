"""How many photographs a second are finished: the limit, the whole system, and what people use today."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median

import click

from tests.benchmarks.contender import compete
from tests.benchmarks.limit import NAME as LIMIT
from tests.benchmarks.limit import Limit
from tests.benchmarks.ours import FLAVOURS, ours
from tests.benchmarks.peers import contenders as peers
from tests.benchmarks.piles import FULL, FULL_SIZE, LARGE, LARGE_SIZE, SMALL, SMALL_SIZE, repeat, resized

FEWER = 2
"""A pile of very large photographs, and one for the peers, is this many times smaller: each photograph takes longer."""

TRIED = 32
"""Photographs of a pile with which the limit's setting is found."""

OURS = tuple(ours(flavour).name for flavour in FLAVOURS)


def measure(quick: bool) -> dict:
    """Return photographs per second by pile and contender: medians, each round's, and the limit's settings."""
    photographs, rounds = (32, 1) if quick else (96, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        piles = {
            FULL_SIZE: repeat(FULL, photographs),
            SMALL_SIZE: repeat(resized(folder / "small", SMALL), photographs),
            LARGE_SIZE: repeat(resized(folder / "large", LARGE), photographs // FEWER),
        }
        limit = Limit(folder / "limit.onnx")
        settings = {}
        for pile, of_pile in piles.items():
            settings[pile] = limit.find_fastest(of_pile[:TRIED])
            click.echo(f"the limit is fastest with {settings[pile]} on {pile}")
        entries = [(limit.contender(settings[pile]), {pile: piles[pile]}) for pile in piles]
        entries += [(ours(flavour), piles) for flavour in FLAVOURS]
        entries += [(ours(flavour, workers=2), {FULL_SIZE: piles[FULL_SIZE]}) for flavour in FLAVOURS]
        entries += [(peer, {FULL_SIZE: piles[FULL_SIZE][: photographs // FEWER]}) for peer in peers()]
        found = compete(entries, rounds)
    medians = {pile: {who: median(rates) for who, rates in of_pile.items()} for pile, of_pile in found.rates.items()}
    return {
        "ratios": find_ratios(medians),
        "photographs_per_s": medians,
        "rounds": found.rates,
        "not_started": found.not_started,
        "limit_settings": {pile: asdict(setting) for pile, setting in settings.items()},
    }


def find_ratios(rates: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return ours, on whichever of the two stacks is slower, over the limit and over the fastest peer.

    rates: photographs per second by pile and contender.
    """
    slower = {pile: min(of_pile[name] for name in OURS) for pile, of_pile in rates.items()}
    peers = [rate for who, rate in rates[FULL_SIZE].items() if who != LIMIT and not who.startswith(OURS)]
    return {
        "drained_over_limit": slower[FULL_SIZE] / rates[FULL_SIZE][LIMIT],
        "large_photos_over_limit": slower[LARGE_SIZE] / rates[LARGE_SIZE][LIMIT],
        **({"drained_over_best_peer": slower[FULL_SIZE] / max(peers)} if peers else {}),
    }
