"""Templates: everything in them is escaped, and characters that would hide or turn text are shown by their codes."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic import BaseModel

from dispatcher.console.alerts import version_of
from dispatcher.console.charts import outcome_strip
from dispatcher.console.preferences import preferences_of
from dispatcher.console.words import WAITS, with_signs
from shared.domain.payloads.content_types import is_json
from shared.version import __version__

ONCE = "once"
ONCE_BYTES = 16
_HERE = Path(__file__).parent
_ICONS: Mapping[str, str] = json.loads((_HERE / "icons.json").read_text())
# Control characters but tab and line ends, marks that turn the direction of text, what has no width, and surrogates.
_JOINER = "\u200d"
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_LINK = re.compile(r'( (?:href|src|action|formaction|data-from|hx-(?:get|post|put|patch|delete|push-url))=")/(?!/)')
_UNITS = (("day", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def render(
    request: Request, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """The page that a template makes of these values."""
    frame = {
        "nonce": request.state.nonce,
        "preferences": preferences_of(request),
        "version": __version__,
        "visitor": getattr(request.state, "visitor", None),
        "frame": getattr(request.state, "frame", None),
        "in_admin": getattr(request.state, "in_admin", False),
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "shown_at": _shown_at(request),
        "now": datetime.now(UTC),
        "status": status,
    }
    page = _environment().get_template(template).render(**{**frame, **values})
    return HTMLResponse(_below(request.state.resources.settings.root_path, page), status, headers)


def _shown_at(request: Request) -> str:
    """The page that is looked at: for a part of one, that which asked for it."""
    referrer = urlsplit(request.headers.get("referer", ""))
    is_part = request.headers.get("sec-fetch-dest") == "empty" and referrer.path
    path, text = (referrer.path, referrer.query) if is_part else (request.url.path, request.url.query)
    return path + (f"?{text}" if text else "")


def _below(root_path: str, page: str) -> str:
    """The page with its links below a prefix; templates write them from the root. No text of others looks like one:
    its quotes are escaped."""
    return _LINK.sub(rf"\g<1>{root_path}/", page) if root_path else page


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_finalize,
    )
    environment.globals |= {"icon": icon, "static": static, "once": once_field, "waits": WAITS}
    environment.filters |= {
        "as_typed": as_typed,
        "pretty": pretty,
        "body": body,
        "ago": ago,
        "utc": utc,
        "query": query,
        "span": span,
        "alerts_version": version_of,
        "digest": digest,
        "seconds": lambda value: span(timedelta(seconds=value)),
        "plain": plain_number,
        "whole": whole_number,
        "signs": with_signs,
        "strip_of": outcome_strip,
    }
    return environment


def _finalize(value: object) -> object:
    return visible(value) if type(value) is str else "" if value is None else value


def visible(text: str) -> str:
    """The text with each character that is not seen, or that changes how others are, as its code.

    What joins two emoji into one stays.
    """
    return _UNSEEN.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    text, at = match.string, match.start()
    if match[0] == _JOINER and _is_emoji(text[at - 1 : at]) and _is_emoji(text[at + 1 : at + 2]):
        return match[0]
    return f"\\u{ord(match[0]):04x}"


def _is_emoji(character: str) -> bool:
    return character != "" and (character >= "\U0001f000" or character == "\ufe0f" or "\u2190" <= character <= "\u2bff")


def as_typed(text: str) -> Markup:
    """The text unchanged, for fields that are sent back."""
    return escape(text.encode("utf-8", "replace").decode())


def icon(name: str) -> Markup:
    """One of the icons, for eyes only: words stand beside it."""
    return Markup(  # noqa: S704 - from a file of the project
        f'<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{_ICONS[name]}</svg>'
    )


@cache
def static(name: str) -> str:
    """The address of a static file, which changes with the file."""
    digest = hashlib.sha256((_HERE / "static" / name).read_bytes()).hexdigest()[:16]
    return f"/console/static/{name}?v={digest}"


def once_field() -> Markup:
    """The field in which a form brings its token: what it is for is done once, however often it is sent."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(ONCE, secrets.token_urlsafe(ONCE_BYTES))


def pretty(value: Any) -> str:
    """A value as JSON to read."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def body(value: Any, content_type: str | None) -> str:
    """A request's body to read: JSON by its lines, a form or plain text as it is."""
    return pretty(value) if content_type is None or is_json(content_type) else str(value)


def utc(moment: datetime) -> str:
    """A moment in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(duration: timedelta) -> str:
    """A duration in its largest unit."""
    seconds = abs(duration.total_seconds())
    for name, size in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' if name == 'day' and count > 1 else ''}"
    return f"{seconds * 1000:.0f} ms" if seconds else "0 s"


def ago(moment: datetime, now: datetime) -> str:
    """How far away a moment is."""
    if abs(now - moment) < timedelta(seconds=1):
        return "now"
    return f"{span(now - moment)} ago" if moment < now else f"in {span(moment - now)}"


def digest(view: BaseModel) -> str:
    """Tells whether a view is another one than a page shows already."""
    return hashlib.sha256(view.model_dump_json().encode()).hexdigest()[:16]


def plain_number(value: float) -> str:
    """A number without a fraction where it has none."""
    return str(int(value)) if float(value).is_integer() else str(round(value, 3))


def whole_number(value: int) -> str:
    """A count, with a thin space between each three digits where there are more than four."""
    return str(value) if value < 10_000 else f"{value:,}".replace(",", "\u2009")


def query(values: Mapping[str, Any]) -> str:
    """Values as the query of a URL, without those that are empty."""
    pairs = {name: value for name, value in values.items() if value not in (None, "", [], ())}
    return f"?{urlencode(pairs, doseq=True)}" if pairs else ""
