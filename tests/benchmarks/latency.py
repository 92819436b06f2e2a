"""How long one case takes when nothing else waits, beside what decoding it and one forward pass take."""

import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from tests.benchmarks.limit import Limit
from tests.benchmarks.ours import running_system
from tests.benchmarks.piles import FULL
from tests.benchmarks.rounds import time_in_turns
from tests.journey.stack import FINAL, RunningStack

_CASE, _BARE = "case_ms", "decode_and_forward_ms"
_MS_PER_S = 1000


def measure(quick: bool) -> dict:
    """Return two medians: from before a case is sent until its end is known, and of the bare work, which take turns."""
    with tempfile.TemporaryDirectory() as name:
        limit = Limit(Path(name) / "limit.onnx")
        setting = limit.find_fastest(FULL[:1])
        with running_system("embedded") as rig, limit.running() as drain:
            sent, decoded = cycle(FULL), cycle(FULL)
            turns = {_CASE: lambda: _finish_next(rig.stack, sent), _BARE: lambda: drain(setting, [next(decoded)])}
            seconds = time_in_turns(turns, rounds=16 if quick else 64)
    ms = {what: _MS_PER_S * taken_s for what, taken_s in seconds.items()}
    return {"ratios": {"idle_latency_extra_ms": ms[_CASE] - ms[_BARE]}, **ms}


def _finish_next(stack: RunningStack, photographs: Iterator[Path]) -> None:
    """Submit a case and ask for it with `Prefer: wait` until it has ended."""
    case = stack.submit(next(photographs).read_bytes()).json()
    while case["state"] not in FINAL:
        case = stack.read(case["id"])
    assert case["state"] == "succeeded", case
