"""An ordinary command with a tiny network, which tries an unfinished purge again after a second.

Called as: hasty_worker.py COMMAND [OPTION]...
"""

import sys

import worker.main
import worker.tasks
from deploy.cli import main
from tests.worker.networks import tiny_model

if __name__ == "__main__":
    model = tiny_model()
    worker.main.load_model = lambda *_: model
    worker.tasks._PURGE_AGAIN_S = 1.0
    main(sys.argv[1:])
