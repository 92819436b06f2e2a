"""An ordinary command whose network reads the warm-up frame, and then nothing more.

Called as: deviceless_worker.py COMMAND [OPTION]...
"""

import sys

import worker.main
from deploy.cli import main
from tests.worker.networks import TinyNetwork, tiny_model


class DeadDevice(TinyNetwork):
    """Fails as every call does after an unrecoverable CUDA error."""

    def look(self, pixels):
        raise RuntimeError("CUDA error: unspecified launch failure")


if __name__ == "__main__":
    model = tiny_model(DeadDevice())
    worker.main.load_model = lambda *_: model
    main(sys.argv[1:])
