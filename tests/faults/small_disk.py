"""A command with a small disk of its own: in a mount namespace, on a folder, in memory. Needs no privilege.

Called as: small_disk.py FOLDER SIZE_BYTES COMMAND [ARGUMENT]... Nobody outside the command sees the disk.
"""

import ctypes
import os
import sys
from pathlib import Path

# From Linux's sched.h and mount.h.
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_PRIVATE, MS_REC = 1 << 18, 1 << 14

LIBC = ctypes.CDLL(None, use_errno=True)


def mount_small_disk(folder: Path, size_bytes: int) -> None:
    """Mount the disk for this process and those that it starts.

    Raises:
        OSError: the kernel refuses.
    """
    user_id, group_id = os.geteuid(), os.getegid()
    call("unshare", CLONE_NEWNS if user_id == 0 else CLONE_NEWNS | CLONE_NEWUSER)
    if user_id != 0:  # root can mount anyway, and must remain able to run PostgreSQL as another user
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user_id} {user_id} 1")
        Path("/proc/self/gid_map").write_text(f"{group_id} {group_id} 1")
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    call("mount", b"none", os.fsencode(folder), b"tmpfs", 0, f"size={size_bytes},mode=0755".encode())


def call(function: str, *arguments) -> None:
    if getattr(LIBC, function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    mount_small_disk(Path(sys.argv[1]), int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])
