"""Heatmaps by pytorch-grad-cam and torchcam, in a process of the peers' environment that takes one batch at a time."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.benchmarks.peers.running import PROGRAMS, bundle_folder, find_python

LIBRARIES = ("pytorch-grad-cam", "pytorch-grad-cam, frozen below the last block", "torchcam")


class Explain(Protocol):
    def __call__(self, library: str, inputs: Path, maps: Path | None = None) -> None:
        """Make a batch's maps; return once they are made and, where `maps` is given, written there.

        inputs: a .npy file, float32 (N, 3, side, side), normalised. maps: one for melanoma's maps.
        """


@contextmanager
def running_libraries() -> Iterator[Explain]:
    """Raises ConfigurationInvalid: `peers_missing`."""
    command = (find_python(), PROGRAMS / "heatmaps.py", bundle_folder())
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield partial(_ask, process)


def _ask(process: subprocess.Popen, library: str, inputs: Path, maps: Path | None = None) -> None:
    json.dump({"library": library, "inputs": str(inputs), "maps": maps and str(maps)}, process.stdin)
    print(file=process.stdin, flush=True)
    if not process.stdout.readline():
        raise RuntimeError(f"{library} ended: exit code {process.wait()}")
