"""An ordinary command whose clock is wrong. Called as: shifted_clock.py SECONDS COMMAND [OPTION]..."""

import sys
from datetime import UTC, datetime, timedelta

import time_machine

from deploy.cli import main

if __name__ == "__main__":
    time_machine.travel(datetime.now(UTC) + timedelta(seconds=float(sys.argv[1])), tick=True).start()
    main(sys.argv[2:])
