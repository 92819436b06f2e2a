"""A day of telemedicine in fast motion: when photographs come."""

import random
from collections.abc import Sequence

HOURLY = (2, 1, 1, 1, 2, 4, 12, 35, 70, 95, 100, 85, 60, 70, 90, 95, 80, 60, 40, 30, 20, 12, 6, 3)
"""How busy each hour is, in percent of the busiest: practices' opening hours, some emergencies at night. Made up."""


def load_at(hour: float) -> float:
    """Return how busy a moment is, from 0 to 1, between the middles of two hours."""
    before, share = divmod((hour - 0.5) % 24, 1)
    return ((1 - share) * HOURLY[int(before)] + share * HOURLY[(int(before) + 1) % 24]) / 100


def draw_arrivals(day_s: float, peak_per_s: float, seed: int) -> Sequence[float]:
    """Return when cases come (s from midnight): a Poisson process by thinning (Lewis and Shedler 1979)."""
    dice, now_s, arrivals = random.Random(seed), 0.0, []
    while (now_s := now_s + dice.expovariate(peak_per_s)) < day_s:
        if dice.random() < load_at(24 * now_s / day_s):
            arrivals.append(now_s)
    return arrivals
