"""How big each fault is: a short form for every run of the suite, and a full one for `make faults`."""

from dataclasses import dataclass

LEASE_S = 6.0
BATCH_SIZE = 4
RECOVERY_S = 10.0
SEED = 20170301


@dataclass(frozen=True)
class Sizes:
    """`cases` are submitted during an ordinary fault, and what goes away stays away for `away_s`.

    Once a server is back, cases end again within `recovery_s`; the short form allows for a busy machine. A storm of
    kills and the rush of many clinics have numbers of their own.
    """

    cases: int
    away_s: float
    recovery_s: float
    deaths: int
    storm_cases: int
    storm_kills: int
    rush_cases: int
    rush_clinics: int
    rush_connections: int


SHORT = Sizes(
    cases=24,
    away_s=3,
    recovery_s=60,
    deaths=1,
    storm_cases=60,
    storm_kills=3,
    rush_cases=100,
    rush_clinics=10,
    rush_connections=40,
)
FULL = Sizes(
    cases=200,
    away_s=60,
    recovery_s=10,
    deaths=10,
    storm_cases=2000,
    storm_kills=50,
    rush_cases=10_000,
    rush_clinics=50,
    rush_connections=200,
)
