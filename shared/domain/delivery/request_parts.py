"""Headers and URLs of a webhook in which secrets stand as `${NAME}`: what is accepted, and how they are filled in.

Only secrets that the webhook was granted may stand in them. Must not put a value into an error.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

from shared.domain.errors import FieldError, InvalidDefinition, Loc

MAX_HEADERS = 20
MAX_HEADER_NAME = 64
MAX_HEADER_CHARS = 2048
"""The longest value of a header before secrets are filled in."""
MAX_HEADER_SECRET_CHARS = 8192
"""The longest secret in a header: most servers take no more than 8 KiB of headers at all."""
MAX_URL_SECRET_CHARS = 1024
"""The longest secret in a URL, as it is spelled there."""
MAX_USER_CHARS = 255

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A header's name (RFC 9110, section 5.6.2)."""
HEADER_VALUE = re.compile(r"[\x21-\x7e]+(?:[ \t]+[\x21-\x7e]+)*")
"""A header's value by RFC 9110, section 5.5, without obsolete text and without white space around it."""
_OWNED = frozenset(
    {
        *("host", "content-length", "content-type", "content-encoding", "transfer-encoding", "trailer", "te"),
        *("connection", "keep-alive", "upgrade", "expect", "http2-settings", "user-agent", "accept-encoding", "date"),
        *("webhook-id", "webhook-timestamp", "webhook-signature", "x-wandb-signature", "traceparent", "tracestate"),
    }
)
"""The headers that the sender makes itself, or that say how a message is framed."""
_OWNED_PREFIXES = ("hookline-", "proxy-")
_PLACE = re.compile(r"\$(?:\$|\{([^{}]*)\}|)")
SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_URL_PLACE = re.compile(r"\$\{([^{}]*)\}")
_BARE_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


def header_faults(headers: Mapping[str, str], granted: frozenset[str]) -> list[FieldError]:
    """What is wrong with a webhook's headers, each fault at the header's name; `granted` may stand in their values."""
    if len(headers) > MAX_HEADERS:
        return [FieldError((), f"must be at most {MAX_HEADERS} headers")]
    faults, seen = [], set[str]()
    for name, value in headers.items():
        lowered = name.lower()
        fault = _name_fault(name, lowered, seen) or _value_fault(value, granted)
        seen.add(lowered)
        if fault is not None:
            # A name that is none may be a value in the wrong place: it is not repeated.
            faults.append(FieldError((name,) if _TOKEN.fullmatch(name) else (), fault))
    return faults


def _name_fault(name: str, lowered: str, seen: set[str]) -> str | None:
    if len(name) > MAX_HEADER_NAME or not _TOKEN.fullmatch(name):
        return f"must have names of 1 to {MAX_HEADER_NAME} letters, digits and !#$%&'*+.^_`|~-, such as X-Api-Key"
    if lowered in _OWNED or lowered.startswith(_OWNED_PREFIXES):
        return "is a header that Hookline sets itself"
    return "is given twice: names of headers do not differ by capitals" if lowered in seen else None


def _value_fault(value: str, granted: frozenset[str]) -> str | None:
    if len(value) > MAX_HEADER_CHARS:
        return f"must have at most {MAX_HEADER_CHARS} characters"
    for place in _PLACE.finditer(value):
        if place[0] == "$":
            return "must write a secret as ${NAME}, and a $ as $$"
        if place[1] is not None and (fault := _reference_fault(place[1], granted)):
            return fault
    if not value:
        return "must have a value of printable ASCII"
    filled = fill_header(value, dict.fromkeys(granted, "x"))
    if not HEADER_VALUE.fullmatch(filled):
        return "must be printable ASCII without line breaks, and without spaces at its ends"
    return None


def _reference_fault(name: str, granted: frozenset[str]) -> str | None:
    if SECRET_NAME.fullmatch(name) and name in granted:
        return None
    available = ", ".join(sorted(granted)) or "none: name them in secrets"
    return f"must name secrets that the webhook was granted, as ${{NAME}}; available: {available}"


def secrets_in_headers(headers: Mapping[str, str]) -> frozenset[str]:
    """The names of the secrets that stand in headers."""
    return frozenset(place[1] for value in headers.values() for place in _PLACE.finditer(value) if place[1] is not None)


def fill_header(value: str, secrets: Mapping[str, str]) -> str:
    """A header's value with its secrets. Raises KeyError for one that is missing."""
    return _filled(value, lambda name: secrets[name])


def mask_header(value: str) -> str:
    """A header's value as people may see it: `***NAME***` in place of each secret."""
    return _filled(value, lambda name: f"***{name}***")


def _filled(value: str, of: Callable[[str], str]) -> str:
    if "$" not in value:
        return value
    return _PLACE.sub(lambda place: "$" if place[1] is None else of(place[1]), value)


def check_header_secret(value: str) -> None:
    """Refuse a secret's value that can't stand in a header.

    Raises:
        InvalidDefinition: without the value.
    """
    if len(value) > MAX_HEADER_SECRET_CHARS or not HEADER_VALUE.fullmatch(value):
        raise InvalidDefinition.at(
            (),
            f"must be printable ASCII of at most {MAX_HEADER_SECRET_CHARS} characters, without line breaks and outer "
            "spaces",
        )


def url_faults(url: str, granted: frozenset[str]) -> list[FieldError]:
    """What is wrong with the secrets in a webhook's URL; whether it is a URL at all is for others to say."""
    places = list(_URL_PLACE.finditer(url))
    if not places:
        return []
    start, end = _path_and_query(url)
    if any(not start <= place.start() < end for place in places):
        return [FieldError((), "may have secrets in its path and query only")]
    faults = [fault for place in places if (fault := _reference_fault(place[1], granted))]
    return [FieldError((), faults[0])] if faults else []


def loose_references(url: str, granted: frozenset[str]) -> list[FieldError]:
    """What looks like a secret in a URL and is none: a `${` that is not closed, and a granted name without braces.

    Other dollars are usual in URLs (`?$filter=`). URLs that are stored may have anything.
    """
    rest = _URL_PLACE.sub("", url)
    is_loose = "${" in rest or any(name in granted for name in _BARE_NAME.findall(rest))
    return [FieldError((), "must write a secret as ${NAME}")] if is_loose else []


def _path_and_query(url: str) -> tuple[int, int]:
    """Where the path begins and the query ends."""
    authority = url.find("://")
    begin = re.compile(r"[/?#]").search(url, authority + 3) if authority >= 0 else None
    start = len(url) if begin is None else begin.start()
    fragment = url.find("#", start)
    return start, len(url) if fragment < 0 else fragment


def secrets_in_url(url: str) -> frozenset[str]:
    """The names of the secrets that stand in a URL."""
    return frozenset(place[1] for place in _URL_PLACE.finditer(url)) if "${" in url else frozenset()


def fill_url(url: str, secrets: Mapping[str, str]) -> str:
    """A URL with its secrets, each percent-encoded as a whole, so that none can break out of its place.

    What is none of `secrets` stays as it stands: such a URL was stored when `${NAME}` meant nothing in it.
    """
    if "${" not in url:
        return url
    return _URL_PLACE.sub(lambda place: quote(secrets[place[1]], safe="") if place[1] in secrets else place[0], url)


def sample_url(url: str) -> str:
    """A URL with a letter in place of each secret, to be checked as a URL."""
    return _URL_PLACE.sub("x", url)


def mask_url(url: str, secrets: frozenset[str]) -> str:
    """A URL as people may see it: `***NAME***` in place of each of these secrets."""
    if "${" not in url:
        return url
    return _URL_PLACE.sub(lambda place: f"***{place[1]}***" if place[1] in secrets else place[0], url)


def check_url_secret(value: str) -> None:
    """Refuse a secret's value that can't stand in the path or query of a URL.

    Raises:
        InvalidDefinition: without the value.
    """
    try:
        spelled = quote(value, safe="")
    except UnicodeEncodeError:
        spelled = ""
    if not 1 <= len(spelled) <= MAX_URL_SECRET_CHARS or value in (".", "..") or not value.isprintable():
        raise InvalidDefinition.at(
            (),
            f"must be text without line breaks, at most {MAX_URL_SECRET_CHARS} characters when percent-encoded, and "
            "neither . nor ..",
        )


def user_fault(user: str) -> str | None:
    """Why this can't be the user of HTTP Basic (RFC 7617, section 2); None where it can."""
    if 1 <= len(user) <= MAX_USER_CHARS and ":" not in user and user.isprintable():
        return None
    return f"must be 1 to {MAX_USER_CHARS} characters without a colon and control characters"


def check_password(value: str) -> None:
    """Refuse a password that HTTP Basic can't carry.

    Raises:
        InvalidDefinition: without the value.
    """
    if len(value) > MAX_HEADER_SECRET_CHARS or not value.isprintable():
        raise InvalidDefinition.at(
            (), f"must be at most {MAX_HEADER_SECRET_CHARS} characters, without line breaks and control characters"
        )


def basic_credentials(user: str, password: str) -> str:
    """User and password as HTTP Basic sends them, in UTF-8 (RFC 7617)."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def under(loc: Loc, faults: list[FieldError]) -> list[FieldError]:
    """Faults at their places in an enclosing object."""
    return [fault.under(*loc) for fault in faults]
