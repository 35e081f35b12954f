"""What the processes of one worker show each other: what each has in flight, and that automations be read anew.

Remote control reaches a worker's main process only, and the drains of `--pool prefork` run in its children. So this is
memory that they share: made before they are forked, written by each in a slot of its own, read without locks. A reader
may see one webhook's change before another's; nothing is decided by these numbers. Apache's scoreboard is the model.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from dataclasses import dataclass

from billiard import current_process

PROCESSES = 256
"""Slots; with more processes than that, some share one and the last to write is shown."""
WEBHOOKS = 1000
"""This many webhooks of one process are shown at most, as many as there are connections unless set otherwise. Twice as
many would double the memory that is reserved, 4 MiB, of which only written pages are used."""
_CELL_BYTES = 8
_ROW_CELLS = 1 + 2 * WEBHOOKS
_SLOW = 1 << 32


@dataclass(frozen=True, slots=True)
class InFlightEntry:
    """How many requests one process has in flight to one webhook."""

    pid: int
    webhook_id: int
    in_flight: int
    slow: bool


class Scoreboard:
    """Shared memory of a worker's processes. Cell 0 counts requests to reload; the slots of the processes follow.

    Each cell is an aligned 64-bit integer, so a reader sees the old value or the new one.
    """

    def __init__(self) -> None:
        size_bytes = (1 + PROCESSES * _ROW_CELLS) * _CELL_BYTES
        self._cells = memoryview(mmap.mmap(-1, size_bytes)).cast("q")

    def ask_to_reload(self) -> None:
        """Have every process read its automations anew."""
        self._cells[0] += 1  # only the main process does; a lost update would be one reload for two requests

    def reloads(self) -> int:
        """How often that was asked for."""
        return self._cells[0]

    def open_row(self) -> ScoreboardSlot:
        """This process's row; a process that replaces a dead one of the pool takes over its row."""
        index = int(getattr(current_process(), "index", 0)) % PROCESSES
        start = 1 + index * _ROW_CELLS
        return ScoreboardSlot(self._cells[start : start + _ROW_CELLS])

    def shown(self) -> list[InFlightEntry]:
        """List what all living processes have in flight, most first."""
        found = [one for index in range(PROCESSES) for one in self._row(1 + index * _ROW_CELLS)]
        return sorted(found, key=lambda one: -one.in_flight)

    def processes(self) -> int:
        """How many processes live that have a row: those that have begun to work."""
        firsts = (self._cells[1 + index * _ROW_CELLS] for index in range(PROCESSES))
        return sum(_lives(pid) for pid in firsts if pid)

    def _row(self, start: int) -> list[InFlightEntry]:
        pid = self._cells[start]
        if not pid or not _lives(pid):
            return []
        entries = self._cells[start + 1 : start + _ROW_CELLS].tolist()
        pairs = zip(entries[::2], entries[1::2], strict=True)
        return [InFlightEntry(pid, id_, count % _SLOW, count >= _SLOW) for id_, count in pairs if id_ and count % _SLOW]


class ScoreboardSlot:
    """Where one process shows what it has in flight.

    One thread writes at a time: `show` is called under the lock of the `InFlightLimiter`. A webhook has two cells, its
    id and its count. The id is written last and removed first, so a reader that finds it finds a count of it.
    """

    def __init__(self, cells: memoryview[int]) -> None:
        self._cells = cells
        for position in range(1, _ROW_CELLS, 2):
            if cells[position]:
                cells[position] = 0
        cells[0] = os.getpid()
        self._positions: dict[int, int] = {}
        """Where each webhook with requests in flight is shown."""
        self._free = list(range(_ROW_CELLS - 2, 0, -2))

    def show(self, webhook_id: int, count: int, slow: bool) -> None:
        """Show that `count` requests are in flight to a webhook; 0 removes it. Where all cells are taken, nothing."""
        position = self._positions.get(webhook_id)
        if count == 0:
            if position is not None:
                self._cells[position] = 0
                self._free.append(self._positions.pop(webhook_id))
            return
        if position is None:
            if not self._free:
                return
            position = self._positions[webhook_id] = self._free.pop()
        self._cells[position + 1] = count + (_SLOW if slow else 0)
        self._cells[position] = webhook_id


def _lives(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
