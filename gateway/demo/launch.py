"""Becomes another program: as a lesser user if asked, and never outliving its parent.

Run by path, not imported: ``python -I -S launch.py SIGNAL PARENT UID GID PROGRAM [ARGUMENT ...]``.
SIGNAL is sent to the program when its parent dies, on Linux; PARENT is that parent's process id.
UID and GID are -1 for "as we are". Running before exec in a process of its own, it needs none of
the code that subprocess would run between fork and exec, which is unsafe beside other threads.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    signal, parent, uid, gid = map(int, arguments[:4])
    program = arguments[4:]
    # Loaded as the user who can read Python's libraries, called as the user who stays: the kernel
    # forgets the signal when the user changes.
    libc = ctypes.CDLL(None)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("the parent is gone already")
    try:
        os.execv(program[0], program)
    except OSError as error:
        sys.exit(f"can't run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
