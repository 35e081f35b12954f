"""YAML documents as JSON values and back, by YAML 1.2's core schema, with `<<` for merging as in 1.1.

Reads the events of PyYAML's parser, which is libyaml where that is built in, and makes the values itself: PyYAML's own
constructors follow YAML 1.1, in which `no` is false and `12:30` is 750. Must not judge what a document says.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import yaml

from shared.domain.visible_text import visible, visible_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_LEVELS = 200
"""How deep a document may nest: twice what definitions may, and a fraction of what Python's stack holds."""

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_STARTS = frozenset("-+.0123456789")
# The forms of YAML 1.2.2, section 10.3.2. A number that begins with needless zeros stays text, as in JSON: `0123` is 83
# to older tools, and a postal code or a commit to people.
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_PREFIX = "tag:yaml.org,2002:"
_SCALAR_TYPES: dict[str, tuple[type, ...]] = {
    f"{_PREFIX}int": (int,),
    f"{_PREFIX}float": (int, float),
    f"{_PREFIX}bool": (bool,),
    f"{_PREFIX}null": (type(None),),
}
_TAGS = (f"{_PREFIX}map", f"{_PREFIX}seq", f"{_PREFIX}str", *_SCALAR_TYPES)
_NOT_JSON = "holds a value that JSON does not have"
_MISFIT = "this value is not what its form or tag says"
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_values(file: IO[bytes] | bytes, *, max_bytes: int) -> Iterator[Any]:
    """The value of each document: dicts whose keys are text, lists, text, numbers, True, False and None.

    All aliases of an anchor are the same object; `max_bytes` bounds about what a document takes with
    all of them written out, and is checked before anything is copied.

    Raises:
        yaml.YAMLError: when it isn't YAML, or says what JSON can't; with the place wherever there is one.
    """
    events = yaml.parse(file, Loader=_PARSER)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            yield _Document(events, max_bytes).value(next(events))


def write_documents(documents: Iterable[dict[str, Any]]) -> str:
    """JSON values as YAML that means the same by YAML 1.1 and 1.2: text that either would take for more is quoted."""
    text = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return visible_json(text)  # double quotes have the same escapes in YAML


def _fault(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


@dataclass(frozen=True, slots=True)
class _Anchored:
    """The node at an anchor, about how many bytes of JSON it makes, and how many levels it has."""

    value: Any
    bytes: int
    levels: int


class _Document:
    """One document while it is read."""

    def __init__(self, events: Iterator[Any], max_bytes: int) -> None:
        self._events = events
        self._max_bytes = max_bytes
        self._bytes = 0
        self._anchored: dict[str, _Anchored | None] = {}  # None while it is being read
        self._level = 0
        self._deepest = 0
        """The deepest level of the value that is being read, so far."""

    def value(self, event: Any) -> Any:
        """The value that begins with the event."""
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        before, deepest, self._deepest = self._bytes, self._deepest, self._level
        if event.anchor is not None:
            self._anchored[event.anchor] = None
        value = self._scalar(event) if isinstance(event, yaml.ScalarEvent) else self._collection(event)
        if event.anchor is not None:
            self._anchored[event.anchor] = _Anchored(value, self._bytes - before, self._deepest - self._level)
        self._deepest = max(self._deepest, deepest)
        return value

    def _grow(self, count: int, event: yaml.Event) -> None:
        self._bytes += count
        if self._bytes > self._max_bytes:
            raise _fault(event, f"with its aliases written out the document is more than {self._max_bytes} bytes")

    def _reach(self, level: int, event: yaml.Event) -> None:
        if level > MAX_LEVELS:
            raise _fault(event, f"nests too deeply, more than {MAX_LEVELS} levels")
        self._deepest = max(self._deepest, level)

    def _aliased(self, event: yaml.AliasEvent) -> Any:
        if event.anchor not in self._anchored:
            raise _fault(event, f"the alias {event.anchor!r} names no anchor before it")
        anchored = self._anchored[event.anchor]
        if anchored is None:
            raise _fault(event, f"the alias {event.anchor!r} stands within what it names")
        self._grow(anchored.bytes, event)
        self._reach(self._level + anchored.levels, event)
        return anchored.value

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        self._grow(len(event.value) + 2, event)
        try:
            if event.tag is None or event.tag == "!":
                return event.value if event.style else _plain(event.value)
            return _tagged(event.tag, event.value)
        except OverflowError as exc:
            raise _fault(event, f"{_NOT_JSON}: {exc}") from exc
        except ValueError as exc:  # of integers, Python reads some thousands of digits
            raise _fault(event, _MISFIT) from exc

    def _collection(self, event: Any) -> Any:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_PREFIX}map" if is_mapping else f"{_PREFIX}seq"):
            raise _fault(event, _MISFIT if event.tag in _TAGS else f"{_NOT_JSON}: {_unknown(event.tag)}")
        self._grow(2, event)
        self._reach(self._level + 1, event)
        self._level += 1
        value = self._mapping() if is_mapping else self._sequence()
        self._level -= 1
        return value

    def _sequence(self) -> list[Any]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self.value(event))
        return items

    def _mapping(self) -> dict[str, Any]:
        merged: dict[str, Any] | None = None
        own: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and not event.style and event.tag is None:
                if merged is not None:
                    raise _fault(event, "the key '<<' comes twice")
                merged = self._merged(next(self._events))
                continue
            key = self._key(event)
            if key in own:
                raise _fault(event, f"the key {key!r} comes twice")
            own[key] = self.value(next(self._events))
        return own if merged is None else {**merged, **own}

    def _key(self, event: Any) -> str:
        key = self.value(event) if isinstance(event, yaml.AliasEvent | yaml.ScalarEvent) else None
        if not isinstance(key, str):
            raise _fault(event, "a key must be text; put it in quotes")
        return key

    def _merged(self, event: Any) -> dict[str, Any]:
        """The members of a mapping, or of several of which earlier ones hold."""
        deepest = self._deepest
        value = self.value(event)
        mappings = value if isinstance(value, list) else [value]
        # The members come into this mapping; the mappings, and the list, are no levels of what is read.
        self._deepest = max(deepest, self._deepest - (2 if isinstance(value, list) else 1))
        merged: dict[str, Any] = {}
        for mapping in reversed(mappings):
            if not isinstance(mapping, dict):
                raise _fault(event, "'<<' takes a mapping or a list of mappings")
            merged.update(mapping)
        return merged


def _plain(text: str) -> Any:
    """The value of text without quotes. Raises ValueError for a number too long, OverflowError for one too large."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise OverflowError(f"{text[:40]} is too large for a number; text needs quotes")
        return number
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _INFINITE.fullmatch(text):
        raise OverflowError(f"{text} is no finite number; text needs quotes")
    return text


def _tagged(tag: str, text: str) -> Any:
    """The value of text with a tag. Raises ValueError if they do not fit, OverflowError beyond JSON's numbers."""
    if tag == f"{_PREFIX}str":
        return text
    if tag not in _TAGS:
        raise OverflowError(_unknown(tag))
    value = _plain(text)
    if type(value) not in _SCALAR_TYPES.get(tag, ()):
        raise ValueError(tag)
    return float(value) if tag == f"{_PREFIX}float" else value


def _unknown(tag: str) -> str:
    return f"the tag {_short(tag)!r}; accepted: {', '.join(map(_short, _TAGS))}"


def _short(tag: str) -> str:
    return tag.replace(_PREFIX, "!!", 1)


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which knows what YAML 1.1 takes for more than text, and is told below of what YAML 1.2 does."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Text; what a terminal would obey is in double quotes, in which it is escaped."""
    return dumper.represent_scalar(f"{_PREFIX}str", text, style='"' if visible(text) != text else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver(
    f"{_PREFIX}float",
    re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+)$"),
    list(_NUMBER_STARTS),
)
