"""The commands that speak to a running API: they read files, send, and print what came of it."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dispatcher.client.api_client import Client, Refused
from dispatcher.client.entities import apply_entities
from dispatcher.client.input_files import Batch, Document, Entities, read_batches, read_documents
from dispatcher.client.messages import complain
from dispatcher.client.yaml_documents import write_documents
from shared.domain.errors import FieldError
from shared.domain.visible_text import shortened, visible_line
from shared.settings import load_settings

BATCHES_PER_SECOND = 10  # a slow rate is spread evenly, not sent in bursts
PLAIN_WIDTH = 200
COLOURS = {"created": "green", "updated": "yellow", "deleted": "red", "unchanged": "dim"}


def publish_file(file: str, *, rate: float | None, max_events: int) -> None:
    """Publish the events of a file, one JSON object on each line; `-` is standard input.

    Args:
        file: its path.
        rate: events per second; None is no limit.
        max_events: the most of a request.

    Raises:
        Refused: when the API takes some of them not; those before are published.
        HooklineError: when the file can't be read or the API can't be reached.
    """
    if rate is not None:
        max_events = max(1, min(max_events, int(rate / BATCHES_PER_SECOND)))
    published = 0
    with (
        click.open_file(file, "rb") as lines,
        Client(load_settings(), on_retry=_tell_retry, on_expiry=_tell_expiry) as client,
        _progress() as progress,
    ):
        task = progress.add_task("publishing", total=_count_events(lines), speed=0.0)
        begin = time.monotonic()
        try:
            for batch in read_batches(file, lines, max_events=max_events):
                if rate is not None:
                    time.sleep(max(0.0, begin + published / rate - time.monotonic()))
                published += _publish_batch(client, batch, file)
                progress.update(task, completed=published, speed=published / (time.monotonic() - begin))
        finally:
            progress.stop()
            click.echo(f"published {published} event{'' if published == 1 else 's'}")


def _publish_batch(client: Client, batch: Batch, name: str) -> int:
    try:
        return client.publish(batch.events)
    except Refused as exc:
        first, last = batch.line_numbers[0], batch.line_numbers[-1]
        complain(f"{name}: lines {first} to {last} are refused together, and what follows is not sent")
        raise Refused(str(exc), tuple(_at_line(error, batch, name) for error in exc.errors)) from exc


def _at_line(error: FieldError, batch: Batch, name: str) -> FieldError:
    """The fault of an event in a batch, told by the event's line in the file."""
    position = next((n for n, part in enumerate(error.loc) if isinstance(part, int)), None)
    if position is None:
        return error
    number = batch.line_numbers[int(error.loc[position])]
    return FieldError((), f"{name}:{number}: {FieldError(error.loc[position + 1 :], error.msg)}")


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:,.0f} events/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _count_events(lines: IO[bytes]) -> int | None:
    """How many events a file holds; unknown for a pipe."""
    if not lines.seekable():
        return None
    begin = lines.tell()
    count = sum(1 for line in lines if line.strip())
    lines.seek(begin)
    return count


def _tell_expiry(when: str) -> None:
    complain(f"the key in HOOKLINE_API_KEY ends at {when}: make another one in time")


def _tell_retry(reason: str, seconds: float) -> None:
    click.echo(visible_line(f"hookline: {reason}; trying again in {seconds:.1f} s"), err=True)


def apply_file(file: str, *, dry_run: bool, every: bool = False) -> bool:
    """Apply the documents of a file, or print what would change. Raises as `publish_file`.

    All documents are tried before the first is applied, so that a fault in the last changes nothing.

    Args:
        file: its path, or `-`.
        dry_run: whether nothing is applied.
        every: whether definitions that do not change are printed as well.

    Returns:
        Whether anything changes.
    """
    with click.open_file(file, "rb") as stream:
        documents = read_documents(file, stream)
    differs = False
    with Client(load_settings(), on_expiry=_tell_expiry) as client:
        if dry_run or len(documents) > 1:
            plans = _plans(client, documents)
        for number, document in enumerate(documents):
            changes = plans[number] if dry_run else _carry_out(client, document, dry_run=False)
            differs |= any(change["change"] != "unchanged" for change in changes)
            _print_changes(
                f"entity {document.entity}" if isinstance(document, Document) else "entities", changes, every
            )
    return differs


def _plans(client: Client, documents: list[Document | Entities]) -> list[list[dict[str, Any]]]:
    """What each document would change. Definitions of an entity that the file creates can't be tried before it is."""
    plans: list[list[dict[str, Any]]] = []
    new: set[str] = set()
    for document in documents:
        if isinstance(document, Document) and document.entity in new:
            plans.append([{"kind": "…", "name": "all definitions", "change": "created", "detail": []}])
            continue
        changes = _carry_out(client, document, dry_run=True)
        if isinstance(document, Entities):
            new |= {change["name"] for change in changes if change["change"] == "created"}
        plans.append(changes)
    return plans


def _carry_out(client: Client, document: Document | Entities, *, dry_run: bool) -> list[dict[str, Any]]:
    if isinstance(document, Entities):
        return apply_entities(client, document, dry_run=dry_run)
    return _apply(client, document, dry_run=dry_run)


def _apply(client: Client, document: Document, *, dry_run: bool) -> list[dict[str, Any]]:
    """Apply a document; refusals name the definitions, and not only their places. Raises as `Client.apply`."""
    try:
        return client.apply(document.entity, document.json, dry_run=dry_run)
    except Refused as exc:
        members = json.loads(document.json)
        faults = tuple(_with_name(error, members) for error in exc.errors)
        raise Refused(str(exc), faults) from exc


def _with_name(error: FieldError, members: dict[str, Any]) -> FieldError:
    """The fault with its definition's name behind the place: `automations.3 (on-production)`."""
    match error.loc:
        case (str(kind), int(index), *rest):
            definitions = members.get(kind)
            if isinstance(definitions, list) and 0 <= index < len(definitions) and isinstance(definitions[index], dict):
                name = definitions[index].get("name")
                if isinstance(name, str) and name:
                    place = f"{kind}.{index} ({shortened(name, MAX_SHOWN_NAME)})"
                    return FieldError((place, *rest), error.msg)
    return error


MAX_SHOWN_NAME = 80
"""Characters of a name in a fault."""


def _print_changes(title: str, changes: list[dict[str, Any]], every: bool) -> None:
    table = Table("kind", "name", "change")
    for change in changes:
        verb = str(change["change"])
        if verb == "unchanged" and not every:
            continue
        kind, name = visible_line(change["kind"]), visible_line(change["name"])
        what = "\n".join(visible_line(line) for line in _told(verb, change))
        table.add_row(Text(kind), Text(name), Text(what, style=COLOURS.get(verb, "")))
    click.echo(visible_line(title))
    if table.row_count:
        Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)
    counts = Counter(str(change["change"]) for change in changes)
    click.echo(", ".join(f"{counts[verb]} {verb}" for verb in ("created", "updated", "deleted", "unchanged")))


def _told(verb: str, change: dict[str, Any]) -> Iterator[str]:
    """The change, and for each member of an update its old and new value, as far as an older server tells them."""
    members = change.get("detail") or ()
    before, after = change.get("before"), change.get("after")
    if not members or before is None or after is None:
        yield f"{verb}: {', '.join(members)}" if members else verb
        return
    yield verb
    for member in members:
        yield f"{member}: {_short(before.get(member))} → {_short(after.get(member))}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return shortened(text, MAX_SHOWN_CHARS)


MAX_SHOWN_CHARS = 200
"""Of one value; a payload may have a MiB."""


def export_definitions(entity: str | None, *, projects: bool = False, entities: bool = False) -> None:
    """Print definitions as YAML, of all entities that the key can read if none is named.

    Args:
        entity: its name.
        projects: whether projects and collections are printed too.
        entities: whether the entities themselves come first, in a document of their own.
    """
    with Client(load_settings(), on_expiry=_tell_expiry) as client:
        names = [entity] if entity is not None else list(client.entities())
        documents = [{"entity": name, **client.export(name, projects=projects)} for name in names]
        if entities:
            listed = [_entity(name, client.entity(name) or {}) for name in names]
            documents.insert(0, {"entities": _parents_first(listed)})
    click.echo(write_documents(documents), nl=False)


def _entity(name: str, stored: dict[str, Any]) -> dict[str, Any]:
    told = {"kind": stored.get("kind"), "parent": stored.get("parent")}
    return {"name": name, **{member: value for member, value in told.items() if value not in (None, "team")}}


def _parents_first(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An organization comes before those that belong to it, as they are created."""
    left, found, done = entities, list[dict[str, Any]](), set[str]()
    names = {one["name"] for one in entities}
    while left:
        ready = [one for one in left if one.get("parent") in done or one.get("parent") not in names] or left
        found += ready
        done |= {one["name"] for one in ready}
        left = [one for one in left if one["name"] not in done]
    return found
