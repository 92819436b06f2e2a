"""The limit: the same files through the same network in batches, with no queue, storage, SQL or heatmap.

It stands for what the machine could do, so it may do whatever is fastest: photographs are decoded at the smallest scale
that the network's input allows, and how the cores are shared out is found by trying.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path

from shared.bundle import find_bundle, read_manifest
from shared.settings import Settings
from tests.benchmarks import limit_script
from tests.benchmarks.contender import Contender
from tests.benchmarks.heatmap import WithoutMaps
from tests.benchmarks.rounds import time_in_turns
from worker.model import load_network
from worker.runtime import translate

NAME = "limit"
_TRIALS = 2


@dataclass(frozen=True)
class Setting:
    """How the cores are shared out: photographs decoded and batches run side by side, and threads for each batch."""

    decoders: int
    lanes: int
    threads: int


class Limit:
    """The network, translated once into a file, for any number of processes that run it."""

    def __init__(self, model: Path):
        self._model = model
        folder = find_bundle(Settings.model_fields["model"].default)
        manifest = read_manifest(folder)
        self._side = manifest.preprocessing.input_side
        network = WithoutMaps(load_network(folder, manifest), manifest.preprocessing)
        model.write_bytes(translate(network, self._side, ("logits",)))

    @contextmanager
    def running(self) -> Iterator[Callable[[Setting, Sequence[Path]], float]]:
        """Start a process; yields what returns the seconds that it takes for photographs with a setting."""
        command = (sys.executable, limit_script.__file__, str(self._model), str(self._side))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield partial(_ask, process)
            process.stdin.close()
        assert process.returncode == 0

    def find_fastest(self, photographs: Sequence[Path]) -> Setting:
        """Try every sensible setting on the photographs."""
        cores = len(os.sched_getaffinity(0))
        with self.running() as drain:
            tried = {setting: partial(drain, setting, photographs) for setting in settings_for(cores)}
            seconds = time_in_turns(tried, _TRIALS)
        return min(seconds, key=seconds.get)

    def contender(self, setting: Setting) -> Contender:
        """Return the contender that drains with this setting."""

        @contextmanager
        def running() -> Iterator[Callable[[Sequence[Path]], float]]:
            with self.running() as drain:
                yield partial(drain, setting)

        return Contender(NAME, running)


def settings_for(cores: int) -> Sequence[Setting]:
    """Return one batch on all cores and one batch on each core, with few and many decoders beside."""
    shares = {(1, cores), (cores, 1)}
    return [Setting(decoders, *share) for share, decoders in product(sorted(shares), sorted({1, cores, 2 * cores}))]


def _ask(process: subprocess.Popen, setting: Setting, photographs: Sequence[Path]) -> float:
    json.dump({**asdict(setting), "photographs": [str(photograph) for photograph in photographs]}, process.stdin)
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())
