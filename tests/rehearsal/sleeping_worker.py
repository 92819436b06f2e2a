"""An ordinary command whose network takes a set time per photograph instead of computing.

Called as: sleeping_worker.py SECONDS_PER_PHOTOGRAPH COMMAND [OPTION]...
"""

import sys
import time

from torch import Tensor

import worker.main
from deploy.cli import main
from tests.worker.networks import TinyNetwork, tiny_model


class SleepingNetwork(TinyNetwork):
    """Sleeps while it has the device, so that a worker's batches wait for each other as real ones do."""

    def __init__(self, photograph_s: float):
        super().__init__()
        self._photograph_s = photograph_s

    def look(self, pixels: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        time.sleep(self._photograph_s * len(pixels))
        return super().look(pixels)


if __name__ == "__main__":
    model = tiny_model(SleepingNetwork(float(sys.argv[1])))
    worker.main.load_model = lambda *_: model
    main(sys.argv[2:])
