"""Runs a program that ends with its parent: `python die_with_parent.py <parent's pid> program argument…`.

Asks the kernel (Linux) for SIGTERM at the parent's death, however that comes, and becomes the program. Started as
a script, so that nothing runs between fork and exec in a process that may have threads. Must import nothing that is
slow or not in the standard library. On other systems it only becomes the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From `linux/prctl.h`."""
ORPHANED = 3
"""The exit status, which nobody is left to read; it differs from 1 and 2 of Python itself."""


def main() -> None:
    """Tie this process to its parent and become the program; exits with `ORPHANED` if the parent is gone already."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        # The parent may have died before the request: then no signal will come.
        if os.getppid() != parent:
            sys.exit(ORPHANED)
    os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main()
