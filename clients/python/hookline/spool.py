"""Events on disk, until Hookline has them: what survives `kill -9`, an outage, and the end of the process.

A folder holds one file for each process that publishes. Its first line says how far it was sent, the other lines are
events. A file belongs to whoever holds its lock (`flock`), which ends with the process however it ends; a process that
finds a file without an owner sends it first. So nothing is lost, and what was sent but not noted is sent again under
the same ids.

A process that is killed loses nothing that `append` took. A machine that loses power loses what came after the last
`sync`.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = b"hookline-spool 1 %020d\n"
_HEAD_BYTES = len(_HEAD % 0)
_SUFFIX = ".events"
_READ_BYTES = 4 << 20
IS_POSSIBLE = sys.platform != "win32"
"""Whether this system has the locks that a spool needs."""


class SpoolFull(OSError):
    """The spool has as many bytes as it may have, or the disk is full."""


class SpoolFile:
    """One locked file. Not safe for several threads: its publisher has a lock."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.end = os.fstat(descriptor).st_size
        self.sent = self._read_head()

    @classmethod
    def create(cls, folder: Path) -> SpoolFile:
        """A new, empty, locked file. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{time.time_ns():020d}-{os.getpid()}-{os.urandom(3).hex()}{_SUFFIX}"
        path = folder / name
        # It is locked before it has its name, so that nobody takes it for one without an owner.
        hidden = folder / f".{name}"
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if not _lock(descriptor):
                raise SpoolFull(f"{hidden} can't be locked")
            _write_all(descriptor, _HEAD % _HEAD_BYTES, 0)
            hidden.rename(path)
        except BaseException:
            os.close(descriptor)
            hidden.unlink(missing_ok=True)
            raise
        return cls(path, descriptor)

    @classmethod
    def adopt(cls, path: Path) -> SpoolFile | None:
        """A file that another process left, locked; None while it has an owner, or when it is gone or no spool file."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            # It may have been sent and removed between being opened and being locked.
            if _lock(descriptor) and os.fstat(descriptor).st_nlink and os.pread(descriptor, 17, 0) == _HEAD[:17]:
                return cls(path, descriptor)
        except OSError:
            pass
        os.close(descriptor)
        return None

    @property
    def unsent_bytes(self) -> int:
        """How much is yet to be sent."""
        return self.end - self.sent

    def append(self, event: bytes, *, max_bytes: int) -> None:
        """Append an event; it is then safe from the end of this process. Raises SpoolFull, and nothing was appended."""
        line = event + b"\n"
        if self.unsent_bytes + len(line) > max_bytes:
            raise SpoolFull(f"{self.path} has {self.unsent_bytes} unsent bytes; at most {max_bytes}")
        try:
            _write_all(self._descriptor, line, self.end)
        except OSError as exc:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.end)  # no half of an event stays
            raise SpoolFull(f"{self.path}: {exc.strerror or exc}") from exc
        self.end += len(line)

    def unsent(self, *, max_events: int, max_bytes: int) -> tuple[list[bytes], int]:
        """The next events, and the offset after them. What is no whole line, after a power failure, is left out."""
        events: list[bytes] = []
        offset, size = self.sent, 0
        for line, after in self._lines(self.sent):
            if len(events) >= max_events or (events and size + len(line) + 1 > max_bytes):
                break
            if line.startswith(b"{") and line.endswith(b"}"):
                events.append(line)
                size += len(line) + 1
            offset = after
        return events, offset

    def note_sent(self, offset: int) -> None:
        """Remember that everything before `offset` needs not be sent again. Without effect on a full disk, no harm."""
        self.sent = offset
        with suppress(OSError):
            if offset >= self.end and self.end > _HEAD_BYTES:
                # First the mark, so that it never points behind the end.
                _write_all(self._descriptor, _HEAD % _HEAD_BYTES, 0)
                os.ftruncate(self._descriptor, _HEAD_BYTES)
                self.sent = self.end = _HEAD_BYTES
            else:
                _write_all(self._descriptor, _HEAD % offset, 0)

    def sync(self) -> None:
        """Have the disk store everything, for the case of a power failure."""
        with suppress(OSError):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the file up. Without unsent events it is removed; with some, the next process sends them."""
        if self.unsent_bytes == 0:
            with suppress(OSError):
                self.path.unlink()
        self.forget()

    def forget(self) -> None:
        """Close this process's copy of a file that its parent goes on using."""
        # From now on -1, which is no file: the number may soon be another's.
        descriptor, self._descriptor = self._descriptor, -1
        with suppress(OSError):
            os.close(descriptor)

    def _read_head(self) -> int:
        head = os.pread(self._descriptor, _HEAD_BYTES, 0)
        mark = head[17:-1]
        sent = int(mark) if len(head) == _HEAD_BYTES and mark.isdigit() else _HEAD_BYTES
        return max(_HEAD_BYTES, min(sent, self.end))

    def _lines(self, offset: int) -> Iterator[tuple[bytes, int]]:
        rest = b""
        while offset + len(rest) < self.end:
            block = os.pread(self._descriptor, min(_READ_BYTES, self.end - offset - len(rest)), offset + len(rest))
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                offset += len(line) + 1
                yield line, offset
        if rest:
            yield b"", self.end  # without its end: it was never accepted


def left_behind(folder: Path) -> Iterator[SpoolFile]:
    """The files of processes that are gone, oldest first, each locked."""
    try:
        paths = sorted(folder.glob(f"*{_SUFFIX}"))
    except OSError:
        return
    for path in paths:
        if (found := SpoolFile.adopt(path)) is not None:
            yield found


def _lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
