"""The parts of the current process, made when the first drain asks for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """The parts of a process, which are closed together."""

    def close(self) -> None:
        """Close them."""


P = TypeVar("P", bound=Closable)


class LazyProcess(Generic[P]):
    """The parts of the current process, made when first asked for: once for each process id."""

    def __init__(self, build: Callable[[], P]) -> None:
        """Args:
        build: makes the parts.
        """
        self._build = build
        self._lock = threading.Lock()
        """Guards the two below it. Threads of drains ask at the same time; all but the first wait for it."""
        self._process: P | None = None
        self._pid = 0
        """The process that made `_process`: after a fork it is another one's, and must not be touched."""

    def get(self) -> P:
        """This process's parts; after a fork the child gets some of its own."""
        with self._lock:
            if self._process is None or self._pid != os.getpid():
                self._process = self._build()
                self._pid = os.getpid()
            return self._process

    def close(self) -> None:
        """Close this process's parts, if it has any."""
        with self._lock:
            if self._process is not None and self._pid == os.getpid():
                self._process.close()
            self._process = None
