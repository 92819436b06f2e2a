"""An ordinary command that one photograph kills or hangs, as a bug in a decoder written in C would.

Called as: poisoned_worker.py kill|hang SHA256 COMMAND [OPTION]...
"""

import hashlib
import os
import signal
import sys
import threading

import worker.analysis
from deploy.cli import main

EFFECTS = {"kill": lambda: os.kill(os.getpid(), signal.SIGKILL), "hang": threading.Event().wait}


def poison(effect: str, sha256: str) -> None:
    """Apply the effect to this process as soon as it decodes the photograph with this digest."""
    decode = worker.analysis.decode_photograph

    def decode_unless_poisoned(data: bytes, *how):
        if hashlib.sha256(data).hexdigest() == sha256:
            EFFECTS[effect]()
        return decode(data, *how)

    worker.analysis.decode_photograph = decode_unless_poisoned


if __name__ == "__main__":
    poison(*sys.argv[1:3])
    main(sys.argv[3:])
