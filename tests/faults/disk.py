"""A disk that a drill can fill: a small tmpfs, which takes the right to mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

BALLAST = "ballast"


@cache
def can_mount() -> bool:
    """Whether this process may mount a tmpfs."""
    with TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder), size_mib=1):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def small_disk(folder: Path, *, size_mib: int) -> Iterator[None]:
    """A file system of this size on `folder`. Raises CalledProcessError where mounting is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=755", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)  # noqa: S607


def fill(folder: Path) -> None:
    """Take all that is free on the disk of `folder`."""
    with (folder / BALLAST).open("ab", buffering=0) as ballast, suppress(OSError):
        while free := shutil.disk_usage(folder).free:
            os.write(ballast.fileno(), b"\0" * min(free, 1 << 20))


def empty(folder: Path) -> None:
    """Give it back."""
    (folder / BALLAST).unlink(missing_ok=True)
