"""`Follower`: publishes what is appended to files, and remembers how far it came.

An event's id is made of its file and the place in it. So what is published twice, because a follower was killed before
it noted its place, is known as a repeat.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hookline import background, events
from hookline.errors import InvalidEvent
from hookline.follow import facts, records
from hookline.follow.facts import Alert, Fact, Metrics, StateChange
from hookline.follow.followed import EventMaker, Followed, default_source
from hookline.follow.places import Place, Positions
from hookline.follow.wire import Malformed

if TYPE_CHECKING:
    from hookline.background import Background
    from hookline.runs import Run

log = logging.getLogger("hookline")
HEARTBEAT_SECONDS = 300.0
_CHUNK_EVENTS = 500
_WINDOW_BYTES = 1 << 20


class Follower:
    """Follows `.wandb` and TensorBoard files below some paths; call `look` again and again, from one thread.

    - `project`: for all; default the one in the file, for TensorBoard the name of the path.
    - `since`: `now` leaves out what the files of the first look already have; `start` reads everything.
    - `positions`: where places are kept; None keeps none.
    - `heartbeat_seconds`: for wandb's files, which grow as long as a run lives: how long a silence means a crash.
    - `run`: publish all metrics and alerts as this run's, and nothing else.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        project: str | None = None,
        entity: str | None = None,
        author: str = "",
        since: str = "now",
        heartbeat_seconds: float | None = HEARTBEAT_SECONDS,
        positions: Path | None = None,
        publisher: Background | None = None,
        run: Run | None = None,
    ) -> None:
        self._paths = [path.absolute() for path in paths]
        self._maker = EventMaker(self._paths, project, entity, author, default_source(), heartbeat_seconds)
        self._since = since
        self._heartbeat_seconds = heartbeat_seconds
        self._run = run
        self._publisher = publisher if publisher is not None or run is not None else background.shared()
        self._files: dict[Path, Followed] = {}
        self._walk_after = 0.0
        self._positions = None if positions is None else Positions(positions)
        self._known: dict[str, Any] = {} if self._positions is None else self._positions.known
        self._is_first = not self._known  # what appeared since the last time is new

    def look(self, *, thoroughly: bool = False) -> int:
        """Publish what is new; how many events. Does not raise for anything in the files.

        Large trees are searched for new files now and then only, unless `thoroughly`.
        """
        if thoroughly:
            self._walk_after = 0.0
        self._find()
        count = 0
        for file in list(self._files.values()):
            try:
                count += self._read(file)
            except FileNotFoundError:
                self._files.pop(file.path, None)
            except OSError as exc:
                log.warning("%s: %s", file.path, exc)
        self._is_first = False
        self._save()
        return count

    def close(self) -> None:
        """Note the places, and wait for a while until everything is sent."""
        if self._publisher is not None:
            self._publisher.flush()
        self._save()
        if self._positions is not None:
            self._positions.close()

    def _find(self) -> None:
        began = time.monotonic()
        if began < self._walk_after:
            return
        for path in self._walk():
            if path not in self._files:
                is_wandb = path.suffix == ".wandb"
                place = self._known.get(str(path))
                file = Followed(path, is_wandb, Place.of(place))
                self._files[path] = file
                if place is None and self._is_first and self._since == "now":
                    with suppress(OSError):
                        self._skip(file)
        # Large trees are not walked all the time.
        self._walk_after = time.monotonic() + 10 * (time.monotonic() - began)

    def _walk(self) -> Iterator[Path]:
        for path in self._paths:
            if path.is_file():
                yield path
            for folder, folders, names in os.walk(path):  # not into links: wandb's latest-run is one
                folders.sort()
                for name in sorted(names):
                    if name.endswith(".wandb") or "tfevents" in name:
                        file = Path(folder, name)
                        if not file.is_symlink() and file.is_file():
                            yield file

    def _skip(self, file: Followed) -> None:
        """Go to the end of a file that was there before, learning of which run it is."""
        for found, offset in self._cut(file):
            file.place.offset = offset
            for one in found:
                if isinstance(one, StateChange) and one.state == "running" and file.is_wandb:
                    file.running = self._maker.state(file, "running")
        if file.running is not None and not file.place.info.get("ended") and self._is_fresh(file):
            self._publish(file, [file.running])
        file.size = -1

    def _read(self, file: Followed) -> int:
        found = file.path.stat()
        place = file.place
        if place.inode not in (0, found.st_ino) or found.st_size < place.offset:
            file.place = place = Place(generation=place.generation + 1)
            file.is_broken, file.running = False, None
        place.inode = found.st_ino
        if file.is_broken or found.st_size == file.size:
            return 0
        file.size = found.st_size
        count = 0
        waiting: list[events.Event] = []
        done = (place.offset, deepcopy(place.info))
        try:
            for some, offset in self._cut(file):
                waiting += self._events(file, some, place.offset)
                place.offset = offset
                if len(waiting) >= _CHUNK_EVENTS:
                    if not self._publish(file, waiting):
                        return count
                    count, waiting, done = count + len(waiting), [], (place.offset, deepcopy(place.info))
            if self._publish(file, waiting):
                count, done = count + len(waiting), (place.offset, place.info)
        finally:
            if done[0] != place.offset:  # there was no room: it is read again
                place.offset, place.info = done
                file.size = -1
        self._beat(file)
        return count

    def _cut(self, file: Followed) -> Iterator[tuple[list[Fact], int]]:
        with file.path.open("rb", buffering=0) as opened:
            read = _window(opened.fileno())
            size = os.fstat(opened.fileno()).st_size
            if file.is_wandb and records.is_wandb(read) is not True:
                if records.is_wandb(read) is False:
                    self._give_up(file, "is no file of wandb's")
                return
            cut = records.wandb_records if file.is_wandb else records.tensorboard_records
            interpret = facts.of_wandb if file.is_wandb else facts.of_tensorboard
            try:
                for record, offset in cut(read, file.place.offset, size):
                    try:
                        yield interpret(file.place.info, record), offset
                    except Malformed:
                        yield [], offset
            except ValueError as exc:
                self._give_up(file, str(exc))

    def _give_up(self, file: Followed, reason: str) -> None:
        file.is_broken = True
        log.warning("%s: %s; it is left alone from here", file.path, reason)

    def _events(self, file: Followed, found: list[Fact], offset: int) -> list[events.Event]:
        if self._run is None:
            return self._maker.events_of(file, found, offset)
        for one in found:
            if isinstance(one, Metrics):
                try:
                    self._run.log(one.samples, one.step)
                except InvalidEvent as exc:
                    log.warning("%s: %s", file.path, exc)
            elif isinstance(one, Alert):
                self._run.alert(one.title, one.text, one.level)
        return []

    def _publish(self, file: Followed, made: list[events.Event]) -> bool:
        if self._publisher is None or not made:
            return True
        if not self._publisher.publish(made):
            return False
        file.spoke_at = time.monotonic()
        return True

    def _beat(self, file: Followed) -> None:
        """Say that a run lives whose file grows, though without anything to publish."""
        if (
            self._heartbeat_seconds is None
            or file.place.info.get("ended")
            or not file.is_wandb
            or self._publisher is None
        ):
            return
        if time.monotonic() - file.spoke_at < self._heartbeat_seconds / 4 or self._publisher.has_unsent:
            return
        if not self._is_fresh(file):
            return
        if file.running is None and file.place.info.get("run"):
            file.running = self._maker.state(file, "running")
        if file.running is not None:
            self._publish(file, [file.running])

    def _is_fresh(self, file: Followed) -> bool:
        """Whether the file was written to lately: last week's runs that crashed must not come to life."""
        return time.time() - file.path.stat().st_mtime < (self._heartbeat_seconds or HEARTBEAT_SECONDS)

    def _save(self) -> None:
        if self._positions is not None:
            self._positions.save({str(file.path): file.place for file in self._files.values()})


def _window(descriptor: int) -> records.Read:
    """Reads a file through a window, since records are small."""
    start, held = 0, b""

    def read(offset: int, size: int) -> bytes:
        nonlocal start, held
        if not start <= offset or offset + size > start + len(held):
            start, held = offset, os.pread(descriptor, max(size, _WINDOW_BYTES), offset)
        return held[offset - start : offset - start + size]

    return read
