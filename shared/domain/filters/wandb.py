"""Translating the events of automations between the forms of W&B's client and of Hookline's definitions.

The client names one event type and one `eventFilter`, a JSON text whose shape depends on that type; a definition has
`event`, `filter`, `conditions` and `states`. This module translates one form into the other, in both directions, and
refuses a shape that does not belong to the type. What the parts hold (fields, operators, thresholds) is for
`shared.domain.automations.parsing` to check, and for nothing here. The forms are those of the `wandb` client 0.31, and
one that is not: `all_of`, a list of metric conditions that must all hold, which `hookline.wandb` adds to the client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from shared.domain.errors import InvalidDefinition, Loc
from shared.domain.events.types import NOTICE_TYPES, RUN_TYPES, EventType, RunPhase
from shared.domain.filters.normal_form import negation_normal_form, same_normal_form
from shared.domain.json_text import read_json, write_json

LOC: Final = ("eventFilter",)
_MAX_EXACT: Final = 2**53
"""Below it each whole number is exact as a float, so `1.0` may be written as `1`."""


class WandbEventType(StrEnum):
    """The client's names of event types; a metric's three kinds of condition are types of their own."""

    CREATE_ARTIFACT = "CREATE_ARTIFACT"
    LINK_MODEL = "LINK_MODEL"
    UNLINK_ARTIFACT = "UNLINK_ARTIFACT"
    ADD_ARTIFACT_ALIAS = "ADD_ARTIFACT_ALIAS"
    ADD_ARTIFACT_TAG = "ADD_ARTIFACT_TAG"
    REMOVE_ARTIFACT_TAG = "REMOVE_ARTIFACT_TAG"
    ADD_COLLECTION_TAG = "ADD_COLLECTION_TAG"
    REMOVE_COLLECTION_TAG = "REMOVE_COLLECTION_TAG"
    RUN_METRIC = "RUN_METRIC"
    RUN_METRIC_CHANGE = "RUN_METRIC_CHANGE"
    RUN_METRIC_ZSCORE = "RUN_METRIC_ZSCORE"
    RUN_STATE = "RUN_STATE"


@dataclass(frozen=True, slots=True)
class SavedEvent:
    """An event in the form in which the client reads a saved automation: `filter` is JSON text."""

    type: WandbEventType
    filter: str


@dataclass(frozen=True, slots=True)
class _Part:
    """One kind of condition: its key in a `run_metric_filter`, and the client's names of a condition's values.

    `names` are pairs of the client's key and the path in a condition; `defaults` are the values that the client leaves
    out.
    """

    key: str
    names: tuple[tuple[str, tuple[str, ...]], ...]
    defaults: Mapping[str, Any]


_METRIC_PARTS: Final[Mapping[WandbEventType, _Part]] = {
    WandbEventType.RUN_METRIC: _Part(
        "threshold_filter",
        (
            ("name", ("metric",)),
            ("agg_op", ("aggregate",)),
            ("window_size", ("window",)),
            ("cmp_op", ("op",)),
            ("threshold", ("threshold",)),
        ),
        {"agg_op": None, "window_size": 1},
    ),
    WandbEventType.RUN_METRIC_CHANGE: _Part(
        "change_filter",
        (
            ("name", ("metric",)),
            ("agg_op", ("aggregate",)),
            ("current_window_size", ("window",)),
            ("change_amount", ("change", "amount")),
            ("prior_window_size", ("prior_window",)),
            ("change_type", ("change", "type")),
            ("change_dir", ("change", "direction")),
        ),
        {"agg_op": None, "current_window_size": 1, "prior_window_size": 1},
    ),
    WandbEventType.RUN_METRIC_ZSCORE: _Part(
        "zscore_filter",
        (
            ("name", ("metric",)),
            ("window_size", ("window",)),
            ("threshold", ("zscore", "threshold")),
            ("change_dir", ("zscore", "direction")),
        ),
        {},
    ),
}
ALL_OF: Final = "all_of"
"""The key of a `run_metric_filter` that has several conditions; its event type is RUN_METRIC, whatever their kinds."""
_TYPES_BY_KEY: Final[Mapping[str, WandbEventType]] = {part.key: kind for kind, part in _METRIC_PARTS.items()}
_COMPARISONS: Final = ("$gt", "$gte", "$lt", "$lte")
_STATES: Final[Mapping[str, frozenset[str]]] = {
    "RUNNING": frozenset({RunPhase.RUNNING}),
    "FINISHED": frozenset({RunPhase.FINISHED}),
    "FAILED": frozenset({RunPhase.FAILED, RunPhase.CRASHED}),
}
"""The client knows three states; a crashed run is a failed one to it."""


def event_members(
    event_type: WandbEventType, event_filter: str, *, stored: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The members `event`, `filter`, `conditions` and `states` of a definition, from the client's form.

    The client sends an automation's filter back with every change, in words of its own: `stored` is the definition that
    it changes, whose filter is kept as it was written if the one that came back says the same.

    Raises:
        InvalidDefinition: when the filter is not JSON, or its shape is not that of the event type.
    """
    members = _members(event_type, event_filter)
    sent = members["filter"]
    if stored is not None and isinstance(sent, dict) and same_normal_form(sent, stored["filter"]):
        members["filter"] = stored["filter"]
    return members


def _members(event_type: WandbEventType, event_filter: str) -> dict[str, Any]:
    raw = _object(_decode_json(event_filter, LOC), LOC)
    event = hookline_type(event_type)
    members: dict[str, Any] = {"event": str(event), "conditions": [], "states": []}
    if event not in RUN_TYPES:
        return {**members, "filter": _artifact_filter(raw, event_type)}
    if event is EventType.RUN_STATE:
        return {**members, "filter": _run_filter(raw), "states": _states(raw)}
    return {**members, "filter": _run_filter(raw), "conditions": _conditions(event_type, raw)}


def hookline_type(event_type: WandbEventType) -> EventType:
    """Hookline's name of this type."""
    if event_type is WandbEventType.LINK_MODEL:
        return EventType.LINK_ARTIFACT
    return EventType.RUN_METRIC if event_type in _METRIC_PARTS else EventType(event_type)


def saved_event(definition: Mapping[str, Any], *, all_of: bool = False) -> SavedEvent | None:
    """A stored definition's event as the client reads it; None for one that its form can't express.

    Inexpressible are: notices of Hookline's own, the removal of an alias, alerts of runs, a condition of `finite`,
    several conditions unless the client is one that reads `all_of`, thresholds compared by `$eq` or `$ne`, and states
    other than running, finished, and failed together with crashed.
    """
    event = EventType(definition["event"])
    if event in NOTICE_TYPES or event in (EventType.REMOVE_ARTIFACT_ALIAS, EventType.RUN_ALERT):
        return None
    if event is EventType.RUN_METRIC:
        return _saved_metric(definition, all_of=all_of)
    if event is EventType.RUN_STATE:
        states = _wandb_states(definition["states"])
        return None if states is None else _saved_run(definition, WandbEventType.RUN_STATE, "run_state_filter", states)
    event_type = WandbEventType.LINK_MODEL if event is EventType.LINK_ARTIFACT else WandbEventType(event)
    return SavedEvent(event_type, _encode_json({"filter": _encode_json({"$or": [_wrap_in_and(definition["filter"])]})}))


def _decode_json(text: object, loc: Loc) -> object:
    if isinstance(text, str):
        try:
            return read_json(text)
        except orjson.JSONDecodeError as exc:
            fault = f"must be a JSON text: {exc.msg} at character {exc.pos}"
    else:
        fault = "must be a JSON text"
    raise InvalidDefinition.at(loc, fault)


def _encode_json(value: object) -> str:
    return write_json(value).decode()


def _object(value: object, loc: Loc, accepted: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidDefinition.at(loc, "must be a JSON object")
    if accepted and (unknown := [key for key in value if key not in accepted]):
        raise InvalidDefinition.at((*loc, unknown[0]), f"is not known here; accepted: {', '.join(accepted)}")
    return value


def _artifact_filter(raw: dict[str, Any], event_type: WandbEventType) -> Any:
    """The filter without the `{"$or": [{"$and": […]}]}` that the client puts around every one."""
    if "run_filter" in raw or "run_metric_filter" in raw or "run_state_filter" in raw:
        raise InvalidDefinition.at(LOC, f"is about runs, but {event_type} events are about artifacts and collections")
    alternatives = raw.get("$or")
    if len(raw) == 1 and isinstance(alternatives, list) and len(alternatives) == 1:
        return _unwrap_and(alternatives[0])
    return raw


def _unwrap_and(expression: Any) -> Any:
    """The only term of an `$and` of one term; any other expression as it is."""
    match expression:
        case {"$and": [dict(only)], **others} if not others:
            return only
        case _:
            return expression


def _wrap_in_and(expression: dict[str, Any]) -> dict[str, Any]:
    """A filter with the `$and` around it that the client wants, in the one form that it does not turn into another.

    It drops what stands around a single term, a `$nor` too, and joins a `$nor` in a `$nor` with it. So the normal form,
    which has neither, is what it is shown.
    """
    normal = negation_normal_form(expression)
    return normal if "$and" in normal else {"$and": [normal]}


def _run_filter(raw: dict[str, Any]) -> Any:
    """`run_filter` is JSON text inside the JSON text; an object is taken as well."""
    loc = (*LOC, "run_filter")
    value = raw.get("run_filter")
    if value is None:
        return {"$and": []}
    return _unwrap_and(_object(_decode_json(value, loc) if isinstance(value, str) else value, loc))


def _conditions(event_type: WandbEventType, raw: dict[str, Any]) -> list[dict[str, Any]]:
    _object(raw, LOC, ("run_filter", "run_metric_filter", "metric_filter"))
    if raw.get("metric_filter") is not None:
        message = "is a form of older clients that is not read here; put a threshold_filter into run_metric_filter"
        raise InvalidDefinition.at((*LOC, "metric_filter"), message)
    part, loc = _METRIC_PARTS[event_type], (*LOC, "run_metric_filter")
    if "run_metric_filter" not in raw:
        raise InvalidDefinition.at(loc, f"is required with {event_type}")
    given = {key: value for key, value in _object(raw["run_metric_filter"], loc).items() if value is not None}
    if list(given) == [ALL_OF] and event_type is WandbEventType.RUN_METRIC:
        return _all_of(given[ALL_OF], (*loc, ALL_OF))
    if list(given) != [part.key]:
        raise InvalidDefinition.at(loc, f"must be an object with {part.key} alone when the event is {event_type}")
    return [_condition_of(part, given[part.key], (*loc, part.key))]


def _all_of(given: object, loc: Loc) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not given:
        raise InvalidDefinition.at(loc, f"must be a list of objects, each with one of {', '.join(_TYPES_BY_KEY)}")
    conditions = []
    for index, each in enumerate(given):
        at = (*loc, index)
        kinds = {key: value for key, value in _object(each, at, tuple(_TYPES_BY_KEY)).items() if value is not None}
        if len(kinds) != 1:
            raise InvalidDefinition.at(at, f"must be an object with one of {', '.join(_TYPES_BY_KEY)}")
        [(key, value)] = kinds.items()
        conditions.append(_condition_of(_METRIC_PARTS[_TYPES_BY_KEY[key]], value, (*at, key)))
    return conditions


def _condition_of(part: _Part, raw: object, loc: Loc) -> dict[str, Any]:
    """The client's values at their places in a condition; one that is missing is missing there as well."""
    given = _object(raw, loc, [name for name, _ in part.names])
    values = {**part.defaults, **given}
    if "prior_window_size" in part.defaults and "prior_window_size" not in given:
        values["prior_window_size"] = values["current_window_size"]
    if "cmp_op" in values and values["cmp_op"] not in _COMPARISONS:
        raise InvalidDefinition.at((*loc, "cmp_op"), f"must be one of {', '.join(_COMPARISONS)}")
    condition: dict[str, Any] = {path[0]: {} for _, path in part.names if len(path) > 1}
    for name, path in part.names:
        if name in values:
            inner = condition if len(path) == 1 else condition[path[0]]
            inner[path[-1]] = values[name]
    return condition


def _states(raw: dict[str, Any]) -> list[str]:
    _object(raw, LOC, ("run_filter", "run_state_filter"))
    loc = (*LOC, "run_state_filter")
    if "run_state_filter" not in raw:
        raise InvalidDefinition.at(loc, "is required with RUN_STATE")
    states = _object(raw["run_state_filter"], loc, ("states",)).get("states")
    form = f"must be a list of {', '.join(_STATES)}"
    if not isinstance(states, list) or not states:
        raise InvalidDefinition.at((*loc, "states"), form)
    names = [state.upper() if isinstance(state, str) else "" for state in states]
    if not all(name in _STATES for name in names):
        raise InvalidDefinition.at((*loc, "states"), form)
    return sorted(str(phase) for name in set(names) for phase in _STATES[name])


def _wandb_states(phases: Sequence[str]) -> dict[str, Any] | None:
    states = sorted(state for state, covered in _STATES.items() if covered <= set(phases))
    said = {str(phase) for state in states for phase in _STATES[state]}
    return {"states": states} if said == set(phases) else None


def _saved_metric(definition: Mapping[str, Any], *, all_of: bool) -> SavedEvent | None:
    conditions = definition["conditions"]
    if (len(conditions) != 1 and not all_of) or not all(_is_expressible(condition) for condition in conditions):
        return None
    kinds = [_metric_type(condition) for condition in conditions]
    parts = [_saved_condition(_METRIC_PARTS[kind], each) for kind, each in zip(kinds, conditions, strict=True)]
    if len(parts) == 1:
        return _saved_run(definition, kinds[0], "run_metric_filter", parts[0])
    return _saved_run(definition, WandbEventType.RUN_METRIC, "run_metric_filter", {ALL_OF: parts})


def _is_expressible(condition: Mapping[str, Any]) -> bool:
    return "finite" not in condition and condition.get("op", _COMPARISONS[0]) in _COMPARISONS


def _saved_condition(part: _Part, condition: Mapping[str, Any]) -> dict[str, Any]:
    return {part.key: {name: _number(_at(condition, path, part.defaults.get(name))) for name, path in part.names}}


def _metric_type(condition: Mapping[str, Any]) -> WandbEventType:
    if "change" in condition:
        return WandbEventType.RUN_METRIC_CHANGE
    return WandbEventType.RUN_METRIC_ZSCORE if "zscore" in condition else WandbEventType.RUN_METRIC


def _at(condition: Mapping[str, Any], path: tuple[str, ...], default: object) -> Any:
    inner = condition if len(path) == 1 else condition[path[0]]
    return inner.get(path[-1], default)


def _number(value: object) -> object:
    """A whole number without a fraction, as the client writes it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_EXACT:
        return int(value)
    return value


def _saved_run(
    definition: Mapping[str, Any], event_type: WandbEventType, key: str, value: dict[str, Any]
) -> SavedEvent:
    return SavedEvent(
        event_type, _encode_json({"run_filter": _encode_json(_wrap_in_and(definition["filter"])), key: value})
    )
