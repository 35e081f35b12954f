"""The entities of a YAML file: missing ones are created, and those that are there get what the file says of them."""

from __future__ import annotations

from typing import Any

from dispatcher.client.api_client import Client, Refused
from dispatcher.client.input_files import Entities
from shared.domain.errors import FieldError

_KIND, _PARENT = "team", None
"""What a new entity is, of which a file does not say it."""


def apply_entities(client: Client, wanted: Entities, *, dry_run: bool) -> list[dict[str, Any]]:
    """Create and change entities, in the order of the file; returns each change, made or to be made.

    A member that is left out stays as it is. Nothing is deleted.

    Raises:
        Refused: naming the entity; those before it are changed.
        Unreachable: likewise.
    """
    return [_apply(client, name, members, dry_run=dry_run) for name, members in wanted.members.items()]


def _apply(client: Client, name: str, members: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    try:
        stored = client.entity(name)
        before = {"kind": _KIND, "parent": _PARENT, "quotas": {}} if stored is None else _told(stored, members)
        after = {**before, **members}
        changed = [member for member in ("kind", "parent", "quotas") if after[member] != before[member]]
        if not dry_run:
            if stored is None or {"kind", "parent"} & set(changed):
                client.put_entity(name, kind=after["kind"], parent=after["parent"])
            if "quotas" in changed:
                client.change_quotas(name, after["quotas"])
    except Refused as exc:
        faults = [error.under(f"entity {name}") for error in exc.errors] or [FieldError((f"entity {name}",), str(exc))]
        raise Refused(str(exc), tuple(faults), status=exc.status) from exc
    change = "created" if stored is None else "updated" if changed else "unchanged"
    told: dict[str, Any] = {"kind": "entity", "name": name, "change": change, "detail": []}
    if change == "updated":
        told |= {"detail": changed, "before": before, "after": after}
    return told


def _told(stored: dict[str, Any], members: dict[str, Any]) -> dict[str, Any]:
    """What is stored of an entity, in the form of the file: of its quotas those that the file names."""
    named = members.get("quotas")
    quotas = stored.get("quotas", {})
    limits = {quota: _limit(stored, quotas, quota) for quota in named} if isinstance(named, dict) else {}
    return {"kind": stored.get("kind"), "parent": stored.get("parent"), "quotas": limits}


def _limit(stored: dict[str, Any], quotas: dict[str, Any], quota: str) -> Any:
    """A limit; that of events stands beside the quotas, since nothing is stored that it counts."""
    return quotas[quota].get("limit") if quota in quotas else stored.get(quota)
