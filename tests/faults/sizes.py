"""How big each fault is: a short form for every run of the suite, and a full one for `make faults`."""

from dataclasses import dataclass

LEASE_S = 5.0
BATCH_SIZE = 8
SEED = 20170301


@dataclass(frozen=True)
class Sizes:
    """`cases` are submitted during an ordinary fault; a storm of kills has its own number."""

    cases: int
    storm_cases: int
    storm_kills: int


SHORT = Sizes(cases=24, storm_cases=60, storm_kills=3)
FULL = Sizes(cases=200, storm_cases=2000, storm_kills=50)
