"""A reserve of file descriptors, so that a process that has none left can still be asked how it is."""

from __future__ import annotations

import os
from contextlib import suppress


class Reserve:
    """Descriptors that are held open, to be let go when there are no others. For one thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: list[int] = []
        self.fill()

    def fill(self) -> bool:
        """Take what is missing, as far as there is any; whether nothing is missing."""
        with suppress(OSError):
            while len(self._held) < self._size:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return len(self._held) == self._size

    def let_go(self) -> bool:
        """Close one; whether there was one."""
        if self._held:
            os.close(self._held.pop())
            return True
        return False
