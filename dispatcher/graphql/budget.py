"""What one request may cost while it runs: bytes of definitions read, and time.

The price of a document bounds how often it asks; what an entity holds decides how much is read each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

MAX_SECONDS = 10.0
MAX_READ_BYTES = 20 << 20
"""More than the largest page. Some four times as much is in memory."""


class OverBudget(BaseException):
    """Ends a request: no `Exception`, which graphql-core would take for the fault of one field, and go on."""


@dataclass(slots=True)
class Budget:
    """What is left of it."""

    until: float = field(default_factory=lambda: monotonic() + MAX_SECONDS)
    read_bytes: int = 0

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
        self.check()

    def resolve(self, next_: Callable[..., Any], node: Any, info: Any, **arguments: Any) -> Any:
        """As graphql-core's middleware: no field is resolved when the time is up."""
        self.check()
        return next_(node, info, **arguments)
