"""How much of a process's memory its evaluations take together: those that may take a lot wait for each other.

Evaluations of one process share one core, so those that wait lose little, and sixteen batches of the most hostile
events would otherwise be decoded at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class MemoryGate:
    """Lets in what weighs no more than `capacity` together, in the order in which it came. Threads share it.

    Whoever holds a share must not ask for another. It is asked before a transaction begins: a thread that
    waits here holds no row that another may need.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        """Guards the two below it."""
        self._held = 0
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    @contextmanager
    def share(self, weight: int) -> Iterator[None]:
        """Wait until there is room. What weighs more than all there is has the gate for itself."""
        weight = min(weight, self._capacity)
        admitted = threading.Event()
        with self._lock:
            if not self._waiting and self._held + weight <= self._capacity:
                self._held += weight
                admitted.set()
            else:
                self._waiting.append((weight, admitted))
        admitted.wait()
        try:
            yield
        finally:
            with self._lock:
                self._held -= weight
                while self._waiting and self._held + self._waiting[0][0] <= self._capacity:
                    next_weight, next_admitted = self._waiting.popleft()
                    self._held += next_weight
                    next_admitted.set()
