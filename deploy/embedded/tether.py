"""Becomes another program, one that is killed when the process that started it dies.

The supervisor starts each program through this script and not through a `preexec_fn`, which may deadlock in a process
that has threads. The parent-death signal survives `exec`, but not a change of user: hence the order below.
Called by its path, without our packages, as: tether.py PARENT_PID USER_ID|- PROGRAM [ARGUMENT]...
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def become_tethered(parent_pid: int, user_id: int | None, argv: list[str]) -> None:
    """Replace this process by `argv`, which the kernel kills as soon as the parent is gone."""
    if user_id is not None:
        os.setgroups([])
        os.setgid(user_id)
        os.setuid(user_id)
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("The kernel refused to tie this program's life to its parent's.")
    if os.getppid() != parent_pid:
        sys.exit("The parent died before the program could start.")
    # Python ignores these two signals, and they would stay ignored in the program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execvp(argv[0], argv)  # nosec B606  # our own programs; a shell would be one more process


if __name__ == "__main__":
    _, parent, user, *command = sys.argv
    become_tethered(int(parent), None if user == "-" else int(user), command)
