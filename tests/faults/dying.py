"""An ordinary command that dies in the middle of commits that change cases.

Called as: dying.py TIMES FILE COMMAND [OPTION]... The file gets a byte for each death.
"""

import random
import signal
import sys
from pathlib import Path

from sqlalchemy import Connection, Engine, event

from deploy.cli import main

ONE_IN = 3
LONGEST_COMMIT_S = 0.003


def die_in_commits(times: int, deaths: Path) -> None:
    """Let the kernel kill this process at a random moment of such commits, or just after; `times` times in all."""

    @event.listens_for(Engine, "before_cursor_execute")
    def note(connection: Connection, cursor, statement: str, *_) -> None:
        if statement.startswith(("INSERT INTO cases", "UPDATE cases")):
            connection.info["changes_cases"] = True

    @event.listens_for(Engine, "commit")
    def die(connection: Connection) -> None:
        if connection.info.pop("changes_cases", False) and random.randrange(ONE_IN) == 0 and count(deaths) < times:
            with deaths.open("a") as file:
                file.write("x")
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, LONGEST_COMMIT_S))


def count(deaths: Path) -> int:
    return deaths.stat().st_size if deaths.exists() else 0


if __name__ == "__main__":
    die_in_commits(int(sys.argv[1]), Path(sys.argv[2]))
    main(sys.argv[3:])
