"""What one request may cost while it runs: bytes of definitions read, and time.

The price of a document bounds how often it asks; what an entity holds decides how much is read each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Any

from dispatcher.server.memory import release_memory

MAX_SECONDS = 10.0
MAX_READ_BYTES = 20 << 20
"""More than the largest page. Some four times as much is in memory."""


HEAVY_BYTES = 2 << 20
"""A document that reads more is heavy; of those one runs at a time. A listing of hundreds of automations is light."""
MAX_WAIT_SECONDS = 30.0
_heavy = Lock()


class OverBudget(BaseException):
    """Ends a request: no `Exception`, which graphql-core would take for the fault of one field, and go on."""


@dataclass(slots=True)
class Budget:
    """What is left of it. Whoever makes one closes it when the document ends.

    A document that `writes` holds others up and so waits for nobody: it is refused where it would have to.
    """

    writes: bool = False
    until: float = field(default_factory=lambda: monotonic() + MAX_SECONDS)
    read_bytes: int = 0
    is_heavy: bool = False

    def check(self) -> None:
        """Raises OverBudget when the time is up."""
        if monotonic() > self.until:
            raise OverBudget(f"this took more than {MAX_SECONDS:g} s: ask for less at once")

    def is_low(self) -> bool:
        """Whether what was read so far should be answered: a third of the time is over, and to answer takes as long."""
        return monotonic() > self.until - MAX_SECONDS * 2 / 3

    def spend(self, size_bytes: int) -> None:
        """Count bytes that were read. Raises OverBudget."""
        self.read_bytes += size_bytes
        if self.read_bytes > MAX_READ_BYTES:
            limit = f"{MAX_READ_BYTES >> 20} MiB of automations"
            raise OverBudget(f"this reads more than {limit}: ask for fewer of them, page by page (first, after)")
        if self.read_bytes > HEAVY_BYTES and not self.is_heavy:
            self._wait_for_others()
        self.check()

    def close(self) -> None:
        """Let the next heavy document go on, once what this one held is given back."""
        if self.is_heavy:
            self.is_heavy = False
            try:
                release_memory()
            finally:
                _heavy.release()

    def _wait_for_others(self) -> None:
        """Wait until no other heavy document runs; that is no time of this one. Raises OverBudget."""
        began = monotonic()
        self.is_heavy = _heavy.acquire(timeout=0 if self.writes else MAX_WAIT_SECONDS)
        if not self.is_heavy:
            raise OverBudget("others are reading as much at this moment: ask for less at once, or again later")
        self.until += monotonic() - began

    def resolve(self, next_: Callable[..., Any], node: Any, info: Any, **arguments: Any) -> Any:
        """As graphql-core's middleware: no field is resolved when the time is up."""
        self.check()
        return next_(node, info, **arguments)
