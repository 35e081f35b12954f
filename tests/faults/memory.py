"""How much memory the parts of a stage take while work goes on, by how much of it is done."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

MIB = 1 << 20
SETTLED = 0.25
"""From this share of the work on, caches are full and pools are open: what grows after that grows with the work."""


def resident_bytes(pid: int) -> int:
    """What a process and its descendants hold in memory."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        head = psutil.Process(pid)
        for member in (head, *head.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += member.memory_info().rss
    return total


@dataclass
class Memory:
    """Samples of each part, in MiB, by the share of the work that was done."""

    shares: list[float] = field(default_factory=list)
    taken: dict[str, list[float]] = field(default_factory=dict)

    def sample(self, share: float, pids: Mapping[str, int]) -> None:
        """Look at each part once."""
        self.shares.append(share)
        for name, pid in pids.items():
            self.taken.setdefault(name, []).append(resident_bytes(pid) / MIB)

    def peak_mib(self, name: str) -> float:
        """The most that a part took."""
        return max(self.taken[name])

    def growth_mib(self, name: str) -> float:
        """By how much a part grew from a quarter of the work to its end, as the line through its samples has it."""
        settled = [(share, mib) for share, mib in zip(self.shares, self.taken[name], strict=True) if share >= SETTLED]
        if len({share for share, _mib in settled}) < 2:
            return 0.0
        shares, mib = zip(*settled, strict=True)
        return statistics.linear_regression(shares, mib).slope * (1 - SETTLED)

    def at(self, share: float, name: str) -> float:
        """What a part took when this share of the work was done: the nearest sample."""
        nearest = min(range(len(self.shares)), key=lambda index: abs(self.shares[index] - share))
        return self.taken[name][nearest]
