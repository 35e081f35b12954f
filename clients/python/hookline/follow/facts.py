"""What a record of either file says, in the words of events."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hookline import values
from hookline.follow import wire

if TYPE_CHECKING:
    from hookline.events import Level, State

Info = dict[str, Any]
"""What is known of a file's run; it is JSON, and kept with the position."""


@dataclass(frozen=True)
class Metrics:
    """Samples of one step."""

    step: int
    samples: Mapping[str, values.Sample]


@dataclass(frozen=True)
class StateChange:
    """The run is in this state now."""

    state: State


@dataclass(frozen=True)
class NewArtifact:
    """The run made a version of an artifact."""

    name: str
    type: str
    digest: str
    aliases: list[str]
    tags: list[str]
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Alert:
    """The run tells people something."""

    title: str
    text: str
    level: Level


Fact = Metrics | StateChange | NewArtifact | Alert

_HISTORY, _CONFIG, _ARTIFACT, _ALERT, _RUN, _EXIT, _PREEMPTING = 2, 5, 8, 10, 17, 18, 23
_INTERNAL_TYPES = frozenset({"job", "code", "run_table", "wandb-history", "wandb-events"})


def of_wandb(info: Info, record: bytes) -> list[Fact]:
    """The facts of a record of a `.wandb` file (`wandb_internal.Record`), and into `info` what it says of the run.

    Raises Malformed.
    """
    found: list[Fact] = []
    for number, message in wire.fields(record):
        if not isinstance(message, bytes):
            continue
        if number == _HISTORY and info.get("run"):
            found += _history(message)
        elif number == _RUN:
            found += _run(info, message)
        elif number == _CONFIG:
            _update_config(info, message)
        elif number == _ARTIFACT and info.get("run"):
            found += _artifact(message)
        elif number == _ALERT and info.get("run"):
            found += _alert(message)
        elif number == _PREEMPTING and not info.get("ended"):
            info["preempted"] = True
        elif number == _EXIT and not info.get("ended"):
            info["ended"] = True
            status = wire.signed(wire.grouped(message).get(1))
            state: State = "preempted" if info.get("preempted") else "failed" if status else "finished"
            found.append(StateChange(state))
    return found


def _run(info: Info, message: bytes) -> list[Fact]:
    of = wire.grouped(message)
    is_new = not info.get("run")
    info["run"] = values.clean_name(wire.text(of.get(1))) or info.get("run", "")
    for name, number in (("project", 3), ("group", 6), ("job_type", 7), ("name", 8), ("host", 13)):
        if said := values.clean_name(wire.text(of.get(number))):
            info[name] = said
    if tags := [values.clean_name(wire.text([one])) for one in of.get(10, [])]:
        info["tags"] = tags
    for config in wire.blocks(of.get(4)):
        _update_config(info, config)
    return [StateChange("running")] if is_new and info["run"] else []


def _update_config(info: Info, message: bytes) -> None:
    config = info.setdefault("config", {})
    of = wire.grouped(message)
    for item in wire.blocks(of.get(1)):
        keys, value = _item(item, key=1, nested=2)
        if keys and not keys[0].startswith("_"):
            if isinstance(value, dict) and set(value) <= {"value", "desc"} and "value" in value:
                value = value["value"]
            _place(config, keys, value)


def _place(config: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = config.get(key)
        if not isinstance(inner, dict):
            inner = config[key] = {}
        config = inner
    config[keys[-1]] = values.json_value(value)


def _history(message: bytes) -> list[Fact]:
    logged: dict[str, Any] = {}
    step: Any = None
    of = wire.grouped(message)
    for one in wire.blocks(of.get(2)):
        step = wire.signed(wire.grouped(one).get(1))
    for item in wire.blocks(of.get(1)):
        keys, value = _item(item, key=1, nested=2)
        if keys == ["_step"]:
            step = value
        elif keys and not keys[0].startswith("_"):
            _place_value(logged, keys, value)
    found = values.samples(logged)
    if not found or not isinstance(step, int) or isinstance(step, bool) or step < 0:
        return []
    return [Metrics(step, found)]


def _place_value(logged: dict[str, Any], keys: list[str], value: Any) -> None:
    if isinstance(value, dict) and "_type" in value:  # a picture, a table, a histogram
        return
    logged[".".join(keys)] = value


def _item(message: bytes, *, key: int, nested: int) -> tuple[list[str], Any]:
    of = wire.grouped(message)
    keys = [wire.text([one]) for one in of.get(nested, [])] or [wire.text(of.get(key))]
    try:
        value = json.loads(wire.text(of.get(16)) or "null")  # Python's reader takes the bare NaN that is written
    except (ValueError, RecursionError):
        value = None
    return [one for one in keys if one], value


def _artifact(message: bytes) -> list[Fact]:
    of = wire.grouped(message)
    type_, name = values.clean_name(wire.text(of.get(4))), values.clean_name(wire.text(of.get(5)))
    if not name or type_ in _INTERNAL_TYPES:
        return []
    try:
        metadata = json.loads(wire.text(of.get(8)) or "{}")
    except (ValueError, RecursionError):
        metadata = {}
    names = [[values.clean_name(wire.text([one])) for one in of.get(number, [])] for number in (11, 19)]
    digest = values.clean_name(wire.text(of.get(6)))
    aliases, tags = names
    return [NewArtifact(name, type_, digest, aliases, tags, metadata if isinstance(metadata, dict) else {})]


def _alert(message: bytes) -> list[Fact]:
    of = wire.grouped(message)
    title, said = values.clean_name(wire.text(of.get(1))), wire.text(of.get(3)).upper()
    level: Level = "ERROR" if said == "ERROR" else "WARN" if said == "WARN" else "INFO"
    return [Alert(title, wire.text(of.get(2)), level)] if title else []


def of_tensorboard(info: Info, record: bytes) -> list[Fact]:
    """The facts of a record of an event file (`tensorflow.Event`). Raises Malformed."""
    of = wire.grouped(record)
    found: dict[str, Any] = {}
    for summary in wire.blocks(of.get(5)):
        for one in wire.blocks(wire.grouped(summary).get(1)):
            value = wire.grouped(one)
            tag = values.clean_name(wire.text(value.get(1)))
            number = _scalar(value)
            if tag and number is not None:
                found[tag] = values.sample(number)
    step = wire.signed(of.get(2))
    if not found or step < 0:
        return []
    is_new = not info.get("running")
    info["running"] = True
    return [*([StateChange("running")] if is_new else []), Metrics(step, found)]


_PLUGIN_OF_SCALARS = frozenset({"", "scalars"})
_DOUBLE, _FLOAT = 2, 1
_INTEGERS = {3: 7, 9: 10}
"""DT_INT32 and DT_INT64, each with its field of a TensorProto."""


def _scalar(value: dict[int, list[wire.Value]]) -> float | None:
    """The number of a `Summary.Value`: `simple_value`, or a tensor of one number as TensorFlow 2 writes it."""
    if 2 in value:
        return wire.single(value[2][-1])
    for metadata in wire.blocks(value.get(9)):
        for plugin in wire.blocks(wire.grouped(metadata).get(1)):
            if wire.text(wire.grouped(plugin).get(1)) not in _PLUGIN_OF_SCALARS:
                return None
    for message in wire.blocks(value.get(8)):
        tensor = wire.grouped(message)
        for shape in wire.blocks(tensor.get(2)):
            sizes = [wire.signed(wire.grouped(one).get(1)) for one in wire.blocks(wire.grouped(shape).get(2))]
            if math.prod(sizes) != 1:
                return None
        return _number(tensor)
    return None


def _number(tensor: dict[int, list[wire.Value]]) -> float | None:
    kind = wire.signed(tensor.get(1))
    content = wire.blocks(tensor.get(4))
    if kind in (_FLOAT, _DOUBLE):
        size, field_number = (4, 5) if kind == _FLOAT else (8, 6)
        convert = wire.single if kind == _FLOAT else wire.double
        if content and len(content[-1]) == size:
            return convert(int.from_bytes(content[-1], "little"))
        one = tensor.get(field_number, [None])[-1]
        if isinstance(one, bytes) and len(one) == size:  # packed
            return convert(int.from_bytes(one, "little"))
        return convert(one) if isinstance(one, int) else None
    if kind in _INTEGERS:
        if content and len(content[-1]) in (4, 8):
            return int.from_bytes(content[-1], "little", signed=True)
        one = tensor.get(_INTEGERS[kind], [None])[-1]
        if isinstance(one, int):
            return wire.signed([one])
    return None
