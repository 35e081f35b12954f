"""The input files of the `hookline` commands: events as JSON lines, in batches, and definitions as YAML documents.

Must not judge events or definitions, which the API does: only what makes it impossible to send them is refused here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import orjson
import yaml

from dispatcher.client.yaml_documents import read_values
from shared.domain.errors import HooklineError
from shared.domain.events import limits
from shared.domain.json_text import read_event_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BATCH_BYTES = limits.MAX_BATCH_BYTES - limits.MAX_BATCH_EVENTS - 2  # less the commas and brackets
MAX_DOCUMENT_BYTES = 8 << 20
"""The largest manifest that the API accepts."""


class UnreadableInput(HooklineError):
    """A file that the command can't read; the message says where and why."""


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
            read_event_json(event)
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


@dataclass(frozen=True, slots=True)
class Entities:
    """A document that lists entities: of each its name, and what else is said of it."""

    place: str
    members: dict[str, dict[str, Any]]


ENTITY_MEMBERS = ("kind", "parent", "quotas")
"""What a document may say of an entity besides its name."""


def read_documents(name: str, file: IO[bytes]) -> list[Document | Entities]:
    """The YAML documents of a file, empty ones left out.

    Raises:
        UnreadableInput: when it isn't YAML, or a document doesn't name its entity.
    """
    try:
        bodies = [body for body in read_values(file, max_bytes=MAX_DOCUMENT_BYTES) if body is not None]
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise UnreadableInput(f"{place}: {exc.problem}") from exc
    except yaml.YAMLError as exc:
        raise UnreadableInput(f"{name}: {' '.join(str(exc).split())}") from exc
    if not bodies:
        raise UnreadableInput(f"{name}: is empty; each document must have `entity` and definitions, or `entities`")
    return [_document(f"{name}, document {number}", body) for number, body in enumerate(bodies, start=1)]


def _document(place: str, body: object) -> Document | Entities:
    if isinstance(body, dict) and "entities" in body:
        return _entities(place, body)
    if not isinstance(body, dict) or not isinstance(body.get("entity"), str) or not body["entity"]:
        raise UnreadableInput(f"{place}: entity: is required, the name of the entity that the definitions belong to")
    entity = body.pop("entity")
    try:
        return Document(entity, json.dumps(body).encode())
    except ValueError as exc:  # Python writes no integer of more than some thousands of digits
        raise UnreadableInput(f"{place}: holds a value that JSON does not have: {exc}") from exc


def _entities(place: str, body: dict[str, Any]) -> Entities:
    """Their names and members; what their values may be, the API says."""
    if others := [str(key) for key in body if key != "entities"]:
        what = "a document with entities has nothing else; put it into a document of its own, after `---`"
        raise UnreadableInput(f"{place}: {others[0]}: {what}")
    listed = body["entities"]
    if not isinstance(listed, list):
        raise UnreadableInput(f"{place}: entities: must be a list of objects with `name`")
    found: dict[str, dict[str, Any]] = {}
    for index, one in enumerate(listed):
        here = f"{place}: entities.{index}"
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or not one["name"]:
            raise UnreadableInput(f"{here}: name: is required, the name of an entity")
        if unknown := [str(key) for key in one if key not in ("name", *ENTITY_MEMBERS)]:
            raise UnreadableInput(
                f"{here}.{unknown[0]}: is not known here; accepted: name, {', '.join(ENTITY_MEMBERS)}"
            )
        if one["name"] in found:
            raise UnreadableInput(f"{here}.name: comes twice")
        found[one["name"]] = {key: value for key, value in one.items() if key != "name"}
    return Entities(place, found)
