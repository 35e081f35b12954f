"""How far each file was read, and the file that remembers it between followers."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hookline import configuration
from hookline.errors import HooklineError, InvalidConfiguration
from hookline.follow.facts import Info

if sys.platform != "win32":
    import fcntl

log = logging.getLogger("hookline")


@dataclass
class Place:
    """How far a file was read."""

    offset: int = 0
    inode: int = 0
    generation: int = 0
    """How often the file was replaced by one of the same name."""
    info: Info = field(default_factory=dict)

    @classmethod
    def of(cls, known: Any) -> Place:
        """What was kept of it; the beginning, where nothing usable was."""
        if not isinstance(known, dict):
            return cls()
        try:
            return cls(int(known["offset"]), int(known["inode"]), int(known["generation"]), dict(known["info"]))
        except (KeyError, TypeError, ValueError):
            return cls()


class Positions:
    """The places of the files that a follower reads, kept for the next one; one process alone has it, by a lock."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidConfiguration while another process has it, HooklineError where it can't be read."""
        self._path = path
        self._saved = ""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path)
        try:
            known = json.loads(path.read_text())
        except FileNotFoundError:
            known = {}
        except (OSError, ValueError) as exc:
            self.close()
            raise HooklineError(f"{path}: can't be read: {exc}; remove it to begin anew") from exc
        files = known.get("files") if isinstance(known, dict) else None
        self.known: dict[str, Any] = files if isinstance(files, dict) else {}
        """What was kept, by path."""

    def save(self, places: Mapping[str, Place]) -> None:
        """Keep these places; where that fails, say so and go on."""
        said = json.dumps({"version": 1, "files": {path: asdict(place) for path, place in places.items()}})
        if said == self._saved:
            return
        beside = self._path.with_suffix(".new")
        try:
            beside.write_text(said)
            beside.replace(self._path)
            self._saved = said
        except OSError as exc:
            log.warning("%s can't be written: %s", self._path, exc)

    def close(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(path: Path) -> int | None:
    if sys.platform == "win32":
        return None
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise InvalidConfiguration(f"{path}: another process follows the same paths") from None
    return lock


def default_positions(paths: Sequence[Path]) -> Path:
    """Where the places for these paths are kept."""
    spool = configuration.default_spool() or Path.home() / ".hookline" / "spool"
    named = "\n".join(sorted(str(path.resolve()) for path in paths))
    return spool.parent / "follow" / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.json"
