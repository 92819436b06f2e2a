"""An ordinary command whose network takes a set time per photograph instead of computing.

Called as: sleeping_worker.py SECONDS_PER_PHOTOGRAPH COMMAND [OPTION]...
"""

import sys
import time

from torch import Tensor

import worker.main
from deploy.cli import main
from shared.settings import PREFIX, Settings
from tests.worker.networks import TinyNetwork, tiny_model


class SleepingNetwork(TinyNetwork):
    """Sleeps while it has the device, so that a worker's batches wait for each other as real ones do."""

    def __init__(self, photograph_s: float):
        super().__init__()
        self._photograph_s = photograph_s

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        time.sleep(self._photograph_s * len(pixels))
        return super().forward(pixels)


def variables_of(settings: Settings) -> dict[str, str]:
    """Return the variables that give a process these settings."""
    told = {name: value for name, value in settings if name in settings.model_fields_set}
    told |= {"s3_secret_key": settings.s3_secret_key.get_secret_value()}
    return {f"{PREFIX}{name.upper()}": str(value) for name, value in told.items()}


if __name__ == "__main__":
    model = tiny_model(SleepingNetwork(float(sys.argv[1])))
    worker.main.load_model = lambda folder, device: model
    main(sys.argv[2:])
