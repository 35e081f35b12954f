"""A file that is followed: which run it is of, and the events that its facts are."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hookline import configuration, events, values
from hookline.errors import InvalidEvent
from hookline.follow.facts import Alert, Fact, Metrics, NewArtifact, StateChange
from hookline.follow.places import Place

log = logging.getLogger("hookline")


@dataclass
class Followed:
    """One file."""

    path: Path
    is_wandb: bool
    place: Place
    size: int = -1
    """As it was last seen."""
    is_broken: bool = False
    running: events.Event | None = None
    spoke_at: float = 0.0


@dataclass(frozen=True)
class EventMaker:
    """Makes the events of files below some paths. Their ids are made of the file and the place in it."""

    roots: Sequence[Path]
    project: str | None
    entity: str | None
    author: str
    source: str
    heartbeat_seconds: float | None

    def events_of(self, file: Followed, found: list[Fact], offset: int) -> list[events.Event]:
        """The events of the facts at an offset; what no Hookline would accept is logged and left out."""
        made: list[events.Event] = []
        for number, one in enumerate(found):
            id_ = f"{self._of(file)}/{offset}" + (f"/{number}" if number else "")
            try:
                if isinstance(one, Metrics):
                    made += self._metrics(file, one, id_)
                elif isinstance(one, StateChange):
                    made.append(self.state(file, one.state))
                    file.running = made[-1] if one.state == "running" else None
                elif isinstance(one, Alert):
                    made.append(self._alert(file, one, id_))
                else:
                    made += self._artifact(file, one, id_)
            except InvalidEvent as exc:
                log.warning("%s: %s", file.path, exc)
        return made

    def state(self, file: Followed, state: events.State) -> events.Event:
        """That the file's run is in this state."""
        beats = self.heartbeat_seconds if file.is_wandb and state == "running" else None
        return events.run_state(
            project=self._project_of(file),
            run=self._run_of(file),
            state=state,
            heartbeat_seconds=beats,
            **self._common(f"{self._of(file)}/{state}"),
        )

    def _alert(self, file: Followed, one: Alert, id_: str) -> events.Event:
        return events.run_alert(
            project=self._project_of(file),
            run=self._run_of(file),
            title=one.title,
            text=values.clean_text(one.text, events.MAX_TEXT_CHARS),
            level=one.level,
            **self._common(id_),
        )

    def _metrics(self, file: Followed, one: Metrics, id_: str) -> Iterator[events.Event]:
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

    def _artifact(self, file: Followed, one: NewArtifact, id_: str) -> Iterator[events.Event]:
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
        return {"entity": self.entity, "author": self.author, "source": self.source, "id": id_}

    def _of(self, file: Followed) -> str:
        """What begins the ids of a file's events."""
        # Of wandb the folder's name, which has the time: a run that is resumed has a file of that name in another one.
        path = str(file.path)
        name = file.path.parent.name if file.is_wandb else hashlib.sha256(path.encode()).hexdigest()[:16]
        return f"{self._run_id(file)[:200]}/{values.clean_name(name)[:200]}.{file.place.generation}"

    def _run_id(self, file: Followed) -> str:
        if file.is_wandb:
            return str(file.place.info.get("run", ""))
        return values.clean_name(self._below(file)) or "run"

    def _below(self, file: Followed) -> str:
        """TensorBoard's name of a run: the folder of its files, from the path that is followed."""
        for root in self.roots:
            with suppress(ValueError):
                below = file.path.parent.relative_to(root if root.is_dir() else root.parent).as_posix()
                return below if below != "." else file.path.parent.name
        return file.path.parent.name

    def _project_of(self, file: Followed) -> str:
        fallback = next((root.name for root in self.roots if root in file.path.parents), file.path.parent.name)
        return self.project or file.place.info.get("project") or values.clean_name(fallback) or "runs"

    def _run_of(self, file: Followed) -> events.Run:
        info = file.place.info
        members = {key: info[key] for key in ("group", "job_type", "tags", "host") if key in info}
        return events.Run(
            self._run_id(file),
            info.get("name") or self._run_id(file),
            config=values.config_value(info.get("config", {})),
            **members,
        )


def default_source() -> str:
    """HOOKLINE_SOURCE, or `/follow/<host>`."""
    return os.environ.get("HOOKLINE_SOURCE") or configuration.default_source().replace("/python/", "/follow/", 1)
