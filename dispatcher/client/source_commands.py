"""`hookline sources`: what sources there are, what became of their requests, and what would become of one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from dispatcher.client.api_client import Client, Refused
from dispatcher.client.messages import complain
from shared.domain.visible_text import visible_json, visible_line
from shared.settings import load_settings


def list_sources(entity: str | None, *, as_json: bool) -> None:
    """Print the sources of an entity, or of all that the key can read. Raises Refused, Unreachable."""
    settings = load_settings()
    with Client(settings, on_expiry=_tell_expiry) as client:
        entities = [entity] if entity is not None else list(client.entities())
        found = [source for name in entities for source in client.sources(name)]
    if as_json:
        _print_json(found)
        return
    for one in found:
        state = "" if one["enabled"] else "  disabled"
        click.echo(visible_line(f"{one['entity']}  {one['name']}  {one['kind']}  {settings.url}{one['path']}{state}"))


def show_history(name: str, entity: str | None, *, limit: int, as_json: bool) -> None:
    """Print the last requests to a source, newest first. Raises Refused, Unreachable."""
    with Client(load_settings(), on_expiry=_tell_expiry) as client:
        owner = _entity_of(client, entity)
        requests = client.source_requests(owner, client.source(owner, name)["id"], limit=limit)
    if as_json:
        _print_json(requests)
        return
    for one in requests:
        click.echo(visible_line("  ".join(_told(one))))


def _told(request: dict[str, Any]) -> Iterable[str]:
    yield request["at"]
    yield request["outcome"]
    yield f"{request['body_bytes']} bytes from {request['sender'] or 'unknown'}"
    if request["events"]:
        yield ", ".join(f"{event['type']} {event['id']}" for event in request["events"])
    if request["reason"]:
        yield request["reason"]


def try_source(name: str, entity: str | None, *, file: str, headers: Sequence[str], as_json: bool) -> bool:
    """Print what would become of a body. Raises Refused, Unreachable.

    Args:
        name: the source's.
        entity: its entity; None for the only one that the key can read.
        file: the body's path, or `-`.
        headers: each as `name:value`.
        as_json: whether the API's answer is printed as it is.

    Returns:
        Whether it would become events.
    """
    with click.open_file(file, "rb") as stream:
        body = stream.read().decode("utf-8", "surrogateescape")
    sent = dict(_header(text) for text in headers)
    with Client(load_settings(), on_expiry=_tell_expiry) as client:
        owner = _entity_of(client, entity)
        tried = client.try_source(owner, client.source(owner, name)["id"], headers=sent, body=body)
    if as_json:
        _print_json(tried)
    else:
        for event in tried["events"]:
            _print_json(event)
        for reason in tried["ignored"]:
            click.echo(visible_line(f"no event: {reason}"))
        for fault in tried["faults"]:
            place = ".".join(map(str, fault["loc"]))
            complain(f"{place}: {fault['msg']}" if place else fault["msg"])
        if tried["answer"] is not None:
            _print_json(tried["answer"])
    return bool(tried["events"]) and not tried["faults"]


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter("must be NAME:VALUE, such as X-GitHub-Event:push", param_hint="--header")
    return name.strip(), value.strip()


def _entity_of(client: Client, entity: str | None) -> str:
    if entity is not None:
        return entity
    names = list(client.entities())
    if len(names) != 1:
        raise Refused(f"name the entity with --entity: this key can read {', '.join(names) or 'none'}")
    return names[0]


def _print_json(value: object) -> None:
    click.echo(visible_json(json.dumps(value, indent=2, ensure_ascii=False)))


def _tell_expiry(when: str) -> None:
    complain(f"the key in HOOKLINE_API_KEY ends at {when}: make another one in time")
