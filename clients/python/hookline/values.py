"""Values as training code has them, made into what events may hold: names, samples, JSON.

Knows numpy, torch and other arrays only by what they can do (`item`, `tolist`), so that none is imported. Nothing here
raises for a value that somebody logged: what can't be a sample is left out, and what is no JSON becomes text.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import numbers
import os
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

MAX_NAME_CHARS = 512
MAX_METRICS = 1000
_MAX_LEVELS = 20
_MAX_TEXT_CHARS = 16_384
_MAX_ITEMS = 10_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SECRET = re.compile(
    r"(?:^|[_.\-])(?:password|passwd|secret|token|api_?key|access_?key|private_?key|credentials?)$", re.I
)

NON_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
Sample = float | int | str
"""A finite number, or one of "NaN", "Infinity", "-Infinity": JSON has no such numbers."""


def clean_name(value: object) -> str:
    """A name as Hookline accepts it: no control characters, no half characters, at most 512; "" if nothing is left."""
    text = value if isinstance(value, str) else str(value)
    text = _CONTROL.sub(" ", text[: 4 * MAX_NAME_CHARS]).encode("utf-8", "replace").decode("utf-8")
    return text.strip()[:MAX_NAME_CHARS]


def clean_text(value: object, max_chars: int) -> str:
    """A text of several lines as Hookline accepts it: no control characters but tabs and line breaks, no half ones."""
    text = value if isinstance(value, str) else str(value)
    return _CONTROL_IN_TEXT.sub(" ", text[:max_chars]).encode("utf-8", "replace").decode("utf-8")


def sample(value: object) -> Sample | None:
    """The sample that a value is, or None: for text, True and False, None, and arrays of more than one number."""
    if isinstance(value, (bool, str, bytes)) or value is None:
        return None
    if not isinstance(value, (int, float)):
        value = _scalar(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
    try:
        number = float(value)
    except OverflowError:
        return "Infinity" if value > 0 else "-Infinity"
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    # Integers that a float holds stay integers; others, and subclasses such as numpy.float64, become plain floats.
    return int(value) if isinstance(value, int) and int(number) == value else number


def _scalar(value: object) -> object:
    item = getattr(value, "item", None)
    if callable(item):  # numpy, torch, jax, tensorflow's EagerTensor by .numpy()
        try:
            return item()
        except Exception:
            return None
    numpy = getattr(value, "numpy", None)
    if callable(numpy):
        try:
            return numpy().item()
        except Exception:
            return None
    if isinstance(value, numbers.Real) or hasattr(value, "__float__"):  # Decimal, Fraction
        try:
            return float(value)
        except Exception:
            return None
    return None


def samples(metrics: Mapping[Any, Any]) -> dict[str, Sample]:
    """The samples of what was logged, nested names joined by `.`, as W&B joins them; what is none is left out."""
    found: dict[str, Sample] = {}
    _collect(metrics, "", found, _MAX_LEVELS)
    return found


def _collect(metrics: Mapping[Any, Any], prefix: str, found: dict[str, Sample], levels: int) -> None:
    for key, value in list(metrics.items()):
        name = clean_name(f"{prefix}{key}")
        if isinstance(value, Mapping):
            if levels:
                _collect(value, f"{name}.", found, levels - 1)
        elif name and (one := sample(value)) is not None:
            found[name] = one


def json_value(value: object, *, levels: int = _MAX_LEVELS) -> Any:
    """A value as JSON holds it. Arrays become lists, NaN "NaN", and what JSON does not know becomes text, cut off."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return json_value(value.value, levels=levels)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int(value) if abs(value) < 10**300 else sample(math.inf if value > 0 else -math.inf)
    if isinstance(value, float):
        return sample(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return _text(str(os.fspath(value)))
    if levels <= 0:
        return "…"
    if isinstance(value, Mapping):
        return _members(value, levels)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _members({one.name: getattr(value, one.name, None) for one in dataclasses.fields(value)}, levels)
    tolist = getattr(value, "tolist", None)
    if callable(tolist) and _few(value):
        try:
            return json_value(tolist(), levels=levels - 1)
        except Exception:
            return _text(type(value).__name__)
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    if isinstance(value, Iterable) and isinstance(value, (list, tuple, range)):
        return [json_value(one, levels=levels - 1) for one in list(value)[:_MAX_ITEMS]]
    if (number := sample(value)) is not None:
        return number
    if callable(value):
        return _text(getattr(value, "__qualname__", None) or type(value).__name__)
    try:
        return _text(str(value))
    except Exception:
        return _text(type(value).__name__)


def _few(value: object) -> bool:
    size = getattr(value, "size", 0)
    return not isinstance(size, int) or size <= _MAX_ITEMS


def _members(value: Mapping[Any, Any], levels: int) -> dict[str, Any]:
    members = list(value.items())[:_MAX_ITEMS]
    return {_text(str(key)): json_value(one, levels=levels - 1) for key, one in members}


def _text(text: str) -> str:
    return text[:_MAX_TEXT_CHARS].encode("utf-8", "replace").decode("utf-8")


def as_mapping(config: object) -> Mapping[Any, Any]:
    """A configuration as a mapping: a mapping, an `argparse.Namespace`, a dataclass, or any object with attributes."""
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return config
    for convert in ("to_dict", "model_dump"):
        if callable(method := getattr(config, convert, None)):
            try:
                converted = method()
            except Exception:  # noqa: S112 - the next way may work
                continue
            if isinstance(converted, Mapping):
                return converted
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {one.name: getattr(config, one.name, None) for one in dataclasses.fields(config)}
    return vars(config) if hasattr(config, "__dict__") else {}


def config_value(config: object, *, max_bytes: int = 65_536) -> dict[str, Any]:
    """A run's configuration for filters (`config.<key>`), without what looks like a secret.

    HOOKLINE_CONFIG_KEYS may list patterns of the keys to send, separated by commas, such as `lr,model.*,-model.path`;
    one with `-` in front leaves keys out. Above `max_bytes` of JSON the largest members are left out.
    """
    value = json_value(as_mapping(config))
    kept = _without_secrets(value, "", _key_patterns(os.environ.get("HOOKLINE_CONFIG_KEYS", "")))
    sizes = {key: len(repr(one)) + len(key) for key, one in kept.items()}
    total = sum(sizes.values())
    for key in sorted(sizes, key=lambda one: sizes[one], reverse=True):
        if total <= max_bytes:
            break
        total -= sizes[key]
        del kept[key]
    return kept


def _key_patterns(text: str) -> tuple[list[re.Pattern[str]], list[re.Pattern[str]]]:
    import fnmatch

    wanted, unwanted = [], []
    for one in (part.strip() for part in text.split(",")):
        if one.startswith("-"):
            unwanted.append(re.compile(fnmatch.translate(one[1:])))
        elif one:
            wanted.append(re.compile(fnmatch.translate(one)))
    return wanted, unwanted


def _without_secrets(
    value: Mapping[str, Any], prefix: str, patterns: tuple[list[re.Pattern[str]], list[re.Pattern[str]]]
) -> dict[str, Any]:
    wanted, unwanted = patterns
    kept: dict[str, Any] = {}
    for key, one in value.items():
        path = f"{prefix}{key}"
        if _SECRET.search(key) or any(pattern.match(path) for pattern in unwanted):
            continue
        if isinstance(one, dict):
            inner = _without_secrets(one, f"{path}.", patterns)
            if inner or not wanted:
                kept[key] = inner
        elif not wanted or any(pattern.match(path) for pattern in wanted):
            kept[key] = one
    return kept
