"""What the `hookline` commands read: events as JSON lines, cut into batches; definitions as YAML documents.

Must not judge events or definitions: the API does. Here is only what must hold to send them at all.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

import orjson
import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from shared.domain.errors import HooklineError
from shared.domain.events import decoding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BATCH_BYTES = decoding.MAX_BATCH_BYTES - decoding.MAX_BATCH_EVENTS - 2  # less the commas and brackets
MAX_DOCUMENT_BYTES = 8 << 20
"""What the API takes of a manifest."""
TEXT_TAG, MERGE_TAG, TIMESTAMP_TAG = (f"tag:yaml.org,2002:{name}" for name in ("str", "merge", "timestamp"))


class UnreadableInput(HooklineError):
    """A file is not what the command takes; the message says where."""


@dataclass(slots=True)
class Batch:
    """Events for one request, and the line that each came from, counted from 1."""

    events: list[bytes] = field(default_factory=list)
    line_numbers: list[int] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, number: int, event: bytes) -> None:
        """One more event."""
        self.events.append(event)
        self.line_numbers.append(number)
        self.size_bytes += len(event)

    def has_room(self, event: bytes, *, max_events: int) -> bool:
        """Whether the event still fits; any event fits an empty batch."""
        full = len(self.events) >= max_events or self.size_bytes + len(event) > MAX_BATCH_BYTES
        return not self.events or not full


def read_batches(name: str, lines: Iterable[bytes], *, max_events: int) -> Iterator[Batch]:
    """Batches of up to `max_events` events, one from each line that is not blank.

    Raises:
        UnreadableInput: at a line that is not JSON; what came before it in its batch is not sent either.
    """
    batch = Batch()
    for number, line in enumerate(lines, start=1):
        event = line.strip()
        if not event:
            continue
        if not batch.has_room(event, max_events=max_events):
            yield batch
            batch = Batch()
        try:
            orjson.loads(event)
        except orjson.JSONDecodeError as exc:
            raise UnreadableInput(f"{name}:{number}: is not JSON: {exc.msg}") from exc
        batch.add(number, event)
    if batch.events:
        yield batch


@dataclass(frozen=True, slots=True)
class Document:
    """The definitions of one entity, as JSON."""

    entity: str
    json: bytes


def read_documents(name: str, file: IO[bytes]) -> list[Document]:
    """The YAML documents of a file, empty ones left out.

    Raises:
        UnreadableInput: when it isn't YAML, or a document doesn't name its entity.
    """
    try:
        bodies = [body for body in yaml.load_all(file, Loader=_Loader) if body is not None]
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise UnreadableInput(f"{place}: {exc.problem}") from exc
    except yaml.YAMLError as exc:
        raise UnreadableInput(f"{name}: {' '.join(str(exc).split())}") from exc
    except RecursionError as exc:
        raise UnreadableInput(f"{name}: nests too deeply") from exc
    if not bodies:
        raise UnreadableInput(f"{name}: is empty; each document must have `entity` and definitions")
    return [_document(f"{name}, document {number}", body) for number, body in enumerate(bodies, start=1)]


def _document(place: str, body: object) -> Document:
    if not isinstance(body, dict) or not isinstance(body.get("entity"), str) or not body["entity"]:
        raise UnreadableInput(f"{place}: entity: is required, the name of the entity that the definitions belong to")
    entity = body.pop("entity")
    try:
        if _unfolded_size(body, {}) > MAX_DOCUMENT_BYTES:
            raise ValueError(f"with its aliases written out it is more than {MAX_DOCUMENT_BYTES} bytes")
        return Document(entity, json.dumps(body, allow_nan=False).encode())
    except RecursionError as exc:
        raise UnreadableInput(f"{place}: nests too deeply") from exc
    except (TypeError, ValueError) as exc:
        raise UnreadableInput(f"{place}: holds a value that JSON does not have: {exc}") from exc


def _unfolded_size(value: object, known: dict[int, float]) -> float:
    """About the length of the JSON text, in which what an alias names stands as often as it is named."""
    if isinstance(value, str):
        return len(value) + 2
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf  # until it is known: what holds itself has no end
        members = chain(value, value.values()) if isinstance(value, dict) else value
        known[id(value)] = 2 + sum(_unfolded_size(member, known) for member in members)
    return known[id(value)]


class _Loader(yaml.SafeLoader):
    """YAML's safe types as far as JSON has them: a date stays text, keys are text, and no key comes twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _value in node.value:
            if key.tag not in (TEXT_TAG, MERGE_TAG):
                raise ComposerError(None, None, "a key must be text; put it in quotes", key.start_mark)
            if key.value in seen:
                raise ComposerError(None, None, f"the key {key.value!r} comes twice", key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
            # PyYAML leaves it to Python to refuse `!!int x`, `0x_` and numbers of thousands of digits.
            raise ConstructorError(None, None, "this value is not what its form or tag says", node.start_mark) from exc


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP_TAG]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
