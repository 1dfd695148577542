"""Run a command that dies with its parent: `python -I -S die_with_parent.py PARENT_PID COMMAND…`.

A program of its own and not a `preexec_fn`, which is unsafe beside threads. Standard library alone, and only
what starts fast: it costs about 20 ms before the command takes this process over.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before this could be asked for
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - replacing ourselves is the purpose
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
