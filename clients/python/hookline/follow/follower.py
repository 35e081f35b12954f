"""`Follower`: publishes what is appended to files, and remembers how far it came.

An event's id is made of its file and the place in it. So what is published twice, because a follower was killed before
it noted its place, is known as a repeat.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hookline import background, configuration, events, values
from hookline.errors import HooklineError, InvalidConfiguration, InvalidEvent
from hookline.follow import facts, records
from hookline.follow.facts import Fact, Info, Metrics, NewArtifact, StateChange
from hookline.follow.wire import Malformed

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from hookline.background import Background
    from hookline.runs import Run

log = logging.getLogger("hookline")
HEARTBEAT_SECONDS = 300.0
_CHUNK_EVENTS = 500
_WINDOW_BYTES = 1 << 20


@dataclass
class Place:
    """How far a file was read."""

    offset: int = 0
    inode: int = 0
    generation: int = 0
    """How often the file was replaced by one of the same name."""
    info: Info = field(default_factory=dict)


@dataclass
class _File:
    path: Path
    is_wandb: bool
    place: Place
    size: int = -1
    """As it was last seen."""
    is_broken: bool = False
    running: events.Event | None = None
    spoke_at: float = 0.0


class Follower:
    """Follows `.wandb` and TensorBoard files below some paths; call `look` again and again, from one thread.

    - `project`: for all; default the one in the file, for TensorBoard the name of the path.
    - `since`: `now` leaves out what the files of the first look already have; `start` reads everything.
    - `positions`: where places are kept; None keeps none.
    - `heartbeat_seconds`: for wandb's files, which grow as long as a run lives: how long a silence means a crash.
    - `run`: publish all metrics as this run's, and nothing else.
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
        self._project, self._entity, self._author = project, entity, author
        self._since = since
        self._heartbeat_seconds = heartbeat_seconds
        self._run = run
        self._publisher = publisher if publisher is not None or run is not None else background.shared()
        self._source = os.environ.get("HOOKLINE_SOURCE") or configuration.default_source().replace(
            "/python/", "/follow/", 1
        )
        self._files: dict[Path, _File] = {}
        self._is_first = True
        self._walk_after = 0.0
        self._positions = positions
        self._lock: int | None = None
        self._known: dict[str, Any] = {}
        self._saved = ""
        if positions is not None:
            self._open_positions(positions)

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
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _find(self) -> None:
        began = time.monotonic()
        if began < self._walk_after:
            return
        for path in self._walk():
            if path not in self._files:
                is_wandb = path.suffix == ".wandb"
                place = self._known.get(str(path))
                file = _File(path, is_wandb, _place(place))
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

    def _skip(self, file: _File) -> None:
        """Go to the end of a file that was there before, learning of which run it is."""
        for found, offset in self._cut(file):
            file.place.offset = offset
            for one in found:
                if isinstance(one, StateChange) and one.state == "running" and file.is_wandb:
                    file.running = self._state(file, "running", f"{self._of(file)}/running")
        if file.running is not None and not file.place.info.get("ended") and self._is_fresh(file):
            self._publish(file, [file.running])
        file.size = -1

    def _read(self, file: _File) -> int:
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

    def _cut(self, file: _File) -> Iterator[tuple[list[Fact], int]]:
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

    def _give_up(self, file: _File, reason: str) -> None:
        file.is_broken = True
        log.warning("%s: %s; it is left alone from here", file.path, reason)

    def _events(self, file: _File, found: list[Fact], offset: int) -> list[events.Event]:
        made: list[events.Event] = []
        for number, one in enumerate(found):
            id_ = f"{self._of(file)}/{offset}" + (f"/{number}" if number else "")
            try:
                if self._run is not None:
                    if isinstance(one, Metrics):
                        self._run.log(one.samples, one.step)
                elif isinstance(one, Metrics):
                    made += self._metrics(file, one, id_)
                elif isinstance(one, StateChange):
                    made.append(self._state(file, one.state, f"{self._of(file)}/{one.state}"))
                    file.running = made[-1] if one.state == "running" else None
                else:
                    made += self._artifact(file, one, id_)
            except InvalidEvent as exc:
                log.warning("%s: %s", file.path, exc)
        return made

    def _metrics(self, file: _File, one: Metrics, id_: str) -> Iterator[events.Event]:
        names = list(one.samples)
        for start in range(0, len(names), values.MAX_METRICS):
            part = {name: one.samples[name] for name in names[start : start + values.MAX_METRICS]}
            yield events.run_metrics(
                project=self._project_of(file),
                run=self._run_of(file),
                step=one.step,
                metrics=part,
                **self._common(id_ + (f"+{start}" if start else "")),
            )

    def _state(self, file: _File, state: events.State, id_: str) -> events.Event:
        beats = self._heartbeat_seconds if file.is_wandb and state == "running" else None
        return events.run_state(
            project=self._project_of(file),
            run=self._run_of(file),
            state=state,
            heartbeat_seconds=beats,
            **self._common(id_),
        )

    def _artifact(self, file: _File, one: NewArtifact, id_: str) -> Iterator[events.Event]:
        collection = events.Collection(one.name, one.type)
        short = values.clean_name(one.digest)[:12]
        artifact = events.Artifact(
            f"{file.place.info['run']}/{one.name}/{one.digest}"[: values.MAX_NAME_CHARS],
            version=short,
            aliases=one.aliases,
            tags=one.tags,
            metadata=one.metadata,
        )
        of: dict[str, Any] = {"project": self._project_of(file), "collection": collection, "artifact": artifact}
        yield events.artifact_created(**of, **self._common(id_))
        for alias in one.aliases:
            if alias:
                yield events.alias_added(**of, alias=alias, **self._common(f"{id_}/{alias}"[-512:]))

    def _common(self, id_: str) -> events.Common:
        return {"entity": self._entity, "author": self._author, "source": self._source, "id": id_}

    def _of(self, file: _File) -> str:
        """What begins the ids of a file's events."""
        # Of wandb the folder's name, which has the time: a run that is resumed has a file of that name in another one.
        path = str(file.path)
        name = file.path.parent.name if file.is_wandb else hashlib.sha256(path.encode()).hexdigest()[:16]
        return f"{self._run_id(file)[:200]}/{values.clean_name(name)[:200]}.{file.place.generation}"

    def _run_id(self, file: _File) -> str:
        if file.is_wandb:
            return str(file.place.info.get("run", ""))
        return values.clean_name(self._below(file)) or "run"

    def _below(self, file: _File) -> str:
        """TensorBoard's name of a run: the folder of its files, from the path that is followed."""
        for root in self._paths:
            with suppress(ValueError):
                below = file.path.parent.relative_to(root if root.is_dir() else root.parent).as_posix()
                return below if below != "." else file.path.parent.name
        return file.path.parent.name

    def _project_of(self, file: _File) -> str:
        fallback = next((root.name for root in self._paths if root in file.path.parents), file.path.parent.name)
        return self._project or file.place.info.get("project") or values.clean_name(fallback) or "runs"

    def _run_of(self, file: _File) -> events.Run:
        info = file.place.info
        members = {key: info[key] for key in ("group", "job_type", "tags", "host") if key in info}
        return events.Run(
            self._run_id(file),
            info.get("name") or self._run_id(file),
            config=values.config_value(info.get("config", {})),
            **members,
        )

    def _publish(self, file: _File, made: list[events.Event]) -> bool:
        if self._publisher is None or not made:
            return True
        if not self._publisher.publish(made):
            return False
        file.spoke_at = time.monotonic()
        return True

    def _beat(self, file: _File) -> None:
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
            file.running = self._state(file, "running", f"{self._of(file)}/running")
        if file.running is not None:
            self._publish(file, [file.running])

    def _is_fresh(self, file: _File) -> bool:
        """Whether the file was written to lately: last week's runs that crashed must not come to life."""
        return time.time() - file.path.stat().st_mtime < (self._heartbeat_seconds or HEARTBEAT_SECONDS)

    def _open_positions(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if sys.platform != "win32":
            self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._lock)
                self._lock = None
                raise InvalidConfiguration(f"{path}: another process follows the same paths") from None
        try:
            known = json.loads(path.read_text())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as exc:
            if self._lock is not None:
                os.close(self._lock)
            raise HooklineError(f"{path}: can't be read: {exc}; remove it to begin anew") from exc
        self._known = known.get("files", {}) if isinstance(known, dict) else {}
        if self._known:
            self._is_first = False  # what appeared since the last time is new

    def _save(self) -> None:
        if self._positions is None:
            return
        kept = {str(file.path): asdict(file.place) for file in self._files.values()}
        said = json.dumps({"version": 1, "files": kept})
        if said == self._saved:
            return
        beside = self._positions.with_suffix(".new")
        try:
            beside.write_text(said)
            beside.replace(self._positions)
            self._saved = said
        except OSError as exc:
            log.warning("%s can't be written: %s", self._positions, exc)


def _place(known: Any) -> Place:
    if not isinstance(known, dict):
        return Place()
    try:
        return Place(int(known["offset"]), int(known["inode"]), int(known["generation"]), dict(known["info"]))
    except (KeyError, TypeError, ValueError):
        return Place()


def _window(descriptor: int) -> records.Read:
    """Reads a file through a window, since records are small."""
    start, held = 0, b""

    def read(offset: int, size: int) -> bytes:
        nonlocal start, held
        if not start <= offset or offset + size > start + len(held):
            start, held = offset, os.pread(descriptor, max(size, _WINDOW_BYTES), offset)
        return held[offset - start : offset - start + size]

    return read


def default_positions(paths: Sequence[Path]) -> Path:
    """Where the places for these paths are kept."""
    spool = configuration.default_spool() or Path.home() / ".hookline" / "spool"
    named = "\n".join(sorted(str(path.resolve()) for path in paths))
    return spool.parent / "follow" / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.json"
