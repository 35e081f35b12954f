"""Pages of the audit log: its rows in words, with the way to what was changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.listing import list_url
from dispatcher.console.rendering import render
from dispatcher.control.audit import ChangeView
from dispatcher.control.paging import PageRequest, TwoWayPage, page_request
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import IdKind, decode_id
from shared.domain.visible_text import shortened
from shared.storage.database.transactions import read_transaction

FILTERS = ("by", "action", "target", "since", "until")
_THINGS = {
    "automation": "automation",
    "delivery": "delivery",
    "entity": "entity",
    "key": "key",
    "manifest": "manifest",
    "member": "member",
    "secret": "secret",
    "session": "session",
    "slack": "Slack integration",
    "source": "source",
    "user": "user",
    "webhook": "webhook",
}
_PLACES = (
    (IdKind.AUTOMATION, "automations"),
    (IdKind.WEBHOOK, "settings/webhooks"),
    (IdKind.SLACK, "settings/slack"),
    (IdKind.SOURCE, "settings/sources"),
)
MAX_DETAIL_CHARS = 300


@dataclass(frozen=True, slots=True)
class ShownChange:
    """One row."""

    change: ChangeView
    words: str
    href: str
    """Where the thing is, if it can be looked at and is still there."""
    details: list[tuple[str, str]]


def changes_page(
    request: Request,
    resources: ApiResources,
    template: str,
    list_changes: Callable[[Connection, Mapping[str, str], PageRequest], TwoWayPage[ChangeView]],
) -> Response:
    """The changes that the address asks for, or what is wrong with it."""
    url, page, fault = list_url(request, FILTERS), None, ""
    try:
        with read_transaction(resources.engine) as connection:
            page = list_changes(connection, url.given, page_request(None, url.cursor or None, two_way=True))
    except InvalidDefinition as exc:
        fault = str(exc)
    return render(
        request,
        template,
        status=422 if fault else 200,
        page=page,
        changes=[] if page is None else [_shown(one) for one in page.items],
        url=url,
        fault=fault,
    )


def _shown(one: ChangeView) -> ShownChange:
    """A row of the log as it is shown."""
    kind, _, verb = one.action.partition(".")
    words = f"{_THINGS.get(kind, kind)}: {verb.replace('_', ' ')}"
    details = [(name.replace("_", " "), _short(value)) for name, value in one.detail.items()]
    return ShownChange(one, words, _href(one), details)


def _href(one: ChangeView) -> str:
    if one.entity is None or one.action.endswith(".delete"):
        return ""
    path = f"/console/e/{one.entity}"
    for kind, section in _PLACES:
        if decode_id(kind, one.target.id) is not None:
            return f"{path}/{section}/{one.target.id}"
    if one.action == "delivery.replay":
        return f"{path}/deliveries/{quote(one.target.id, safe='')}"
    return ""


def _short(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = ", ".join(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shortened(text, MAX_DETAIL_CHARS)
