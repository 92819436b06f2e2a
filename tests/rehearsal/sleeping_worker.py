"""An ordinary command whose network takes a set time per photograph instead of computing.

Called as: sleeping_worker.py SECONDS_PER_PHOTOGRAPH COMMAND [OPTION]...
"""

import sys
import time
from threading import Lock

import numpy as np

import worker.main
from deploy.cli import main
from shared.settings import PREFIX, Settings
from tests.worker.networks import TinyNetwork, tiny_manifest
from worker.model import Model, Reading, choose_device


class SleepingModel(Model):
    """Has one device, as a real one: batches wait for each other."""

    def __init__(self, photograph_s: float):
        super().__init__(tiny_manifest(), "d" * 64, "# sleeping", TinyNetwork().eval(), choose_device("cpu"))
        self._photograph_s, self._busy = photograph_s, Lock()

    def read(self, pixels: np.ndarray) -> Reading:
        with self._busy:
            time.sleep(self._photograph_s * len(pixels))
        return super().read(pixels)


def variables_of(settings: Settings) -> dict[str, str]:
    """Return the variables that give a process these settings."""
    told = {name: value for name, value in settings if name in settings.model_fields_set}
    told |= {"s3_secret_key": settings.s3_secret_key.get_secret_value()}
    return {f"{PREFIX}{name.upper()}": str(value) for name, value in told.items()}


if __name__ == "__main__":
    model = SleepingModel(float(sys.argv[1]))
    worker.main.load_model = lambda folder, device: model
    main(sys.argv[2:])
