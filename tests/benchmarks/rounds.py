"""Timing side by side: rounds in which everybody takes a turn, since a shared machine drifts."""

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median


def time_in_turns(contenders: Mapping[Hashable, Callable[[], object]], rounds: int) -> dict[Hashable, float]:
    """Return the median seconds of each contender; a first round, which warms everything up, does not count."""
    seconds: dict[Hashable, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            begun = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - begun)
    return {name: median(taken) for name, taken in seconds.items()}
