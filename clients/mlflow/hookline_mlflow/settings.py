"""What `HOOKLINE_MLFLOW_*` say, beside the client's own `HOOKLINE_*`. Nothing else reads these."""

from __future__ import annotations

import fnmatch
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from hookline import configuration
from hookline.configuration import Endpoint
from hookline.errors import InvalidConfiguration

DEFAULT_WORKSPACE = "default"
_PREFIX = "HOOKLINE_MLFLOW_"
_SWITCH = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


@dataclass(frozen=True)
class Settings:
    """How MLflow's things become Hookline's."""

    source: str
    """The events' `source`."""
    entity: str | None
    """The owner of what is in MLflow's default workspace."""
    entities: Mapping[str, str] = field(default_factory=dict)
    """Owners of other workspaces, where the entity does not have the workspace's name."""
    registry: str = "wandb-registry-model"
    """The project that stands for MLflow's model registry."""
    wanted: tuple[re.Pattern[str], ...] = ()
    unwanted: tuple[re.Pattern[str], ...] = ()
    """Metrics to publish; none wanted means all, but for the unwanted."""
    author_header: str | None = None
    """The request's header in which a proxy names who is signed in."""
    relays: bool = True
    """Whether this process relays what it writes."""
    stages: bool = False
    """Whether a stage of a model version is published as an alias."""
    max_waiting: int = 1_000_000
    """With more events than this waiting, metrics are left out."""

    @classmethod
    def of_environment(cls) -> Settings:
        """The settings by environment.

        Raises:
            InvalidConfiguration: naming the variable and what is accepted.
        """
        relays = _switch("RELAY", True)
        if relays:
            Endpoint.of()
        wanted, unwanted = _patterns(os.environ.get(_PREFIX + "METRICS", "-system/*"))
        entity = configuration.default_entity()
        entities = _pairs("ENTITIES")
        if entity is None and not entities and not _has_workspaces():
            raise InvalidConfiguration("HOOKLINE_ENTITY: is not set; it must name the team that owns the projects")
        return cls(
            source=os.environ.get("HOOKLINE_SOURCE") or f"/mlflow/{socket.gethostname() or 'localhost'}"[:512],
            entity=entity,
            entities=entities,
            registry=os.environ.get(_PREFIX + "REGISTRY") or cls.registry,
            wanted=wanted,
            unwanted=unwanted,
            author_header=os.environ.get(_PREFIX + "AUTHOR_HEADER") or None,
            relays=relays,
            stages=_switch("STAGES", False),
            max_waiting=_number("MAX_WAITING", cls.max_waiting),
        )

    def entity_of(self, workspace: str | None) -> str | None:
        """The owner of what is in a workspace; None where MLflow has no workspaces, or for its default one."""
        if workspace and (named := self.entities.get(workspace)):
            return named
        return self.entity if workspace in (None, "", DEFAULT_WORKSPACE) else workspace

    def wants(self, metric: str) -> bool:
        """Whether a metric of this name is published."""
        if any(pattern.match(metric) for pattern in self.unwanted):
            return False
        return not self.wanted or any(pattern.match(metric) for pattern in self.wanted)


def is_for_clients() -> bool:
    """Whether clients that talk to a server over HTTP publish by themselves. Raises InvalidConfiguration."""
    return _switch("CLIENT", False)


def _has_workspaces() -> bool:
    return os.environ.get("MLFLOW_ENABLE_WORKSPACES", "").strip().lower() in ("1", "true")


def _switch(name: str, default: bool) -> bool:
    text = os.environ.get(_PREFIX + name, "").strip().lower()
    if not text:
        return default
    if text not in _SWITCH:
        raise InvalidConfiguration(f"{_PREFIX}{name}: must be on or off, not {text!r}")
    return _SWITCH[text]


def _number(name: str, default: int) -> int:
    text = os.environ.get(_PREFIX + name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) or int(text) < 1:
        raise InvalidConfiguration(f"{_PREFIX}{name}: must be a whole number from 1, not {text!r}")
    return int(text)


def _pairs(name: str) -> dict[str, str]:
    """`workspace=entity` pairs, separated by commas."""
    pairs: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in os.environ.get(_PREFIX + name, "").split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise InvalidConfiguration(f"{_PREFIX}{name}: must be pairs such as team-a=acme,team-b=beta, not {part!r}")
        pairs[key.strip()] = value.strip()
    return pairs


def _patterns(text: str) -> tuple[tuple[re.Pattern[str], ...], tuple[re.Pattern[str], ...]]:
    """Patterns of names, separated by commas; those with `-` in front leave names out."""
    parts = [one.strip() for one in text.split(",") if one.strip()]
    wanted = tuple(re.compile(fnmatch.translate(one)) for one in parts if not one.startswith("-"))
    return wanted, tuple(re.compile(fnmatch.translate(one[1:])) for one in parts if one.startswith("-"))
