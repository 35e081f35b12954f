"""Reading forms within bounds, and putting a refusal's faults at their fields."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from dispatcher.api.bodies import MAX_BODY_BYTES, media_type, read_body
from dispatcher.api.problems import Problem
from dispatcher.console.visitors import VisitorDep
from shared.domain.errors import FieldError, InvalidDefinition

MAX_FIELDS = 2000
SIGN_IN_BYTES = 8 << 10
KEY_DAYS = ("", "30", "90", "365")
"""How long keys last that a form asks for; blank: for ever."""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields that were sent."""

    fields: dict[str, list[str]] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """A field's first value."""
        return self.fields.get(name, [default])[0]

    def texts(self, name: str) -> list[str]:
        """All values of a field."""
        return self.fields.get(name, [])

    def has(self, name: str) -> bool:
        """Whether the field was sent: a checked box, a pressed button."""
        return name in self.fields


async def read_form(request: Request, limit_bytes: int) -> Form:
    """The form in a request's body. Raises Problem."""
    if not media_type(request) and request.headers.get("content-length", "0") == "0":
        return Form()
    if media_type(request) != "application/x-www-form-urlencoded":
        raise Problem(415, "unsupported-media-type", "the body must be a form")
    body = await read_body(request, limit_bytes, what="the form")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, encoding="utf-8", errors="replace"
        )
    except ValueError:
        raise Problem(400, "bad-request", "the form can't be read") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return Form(fields)


async def _form(request: Request, _visitor: VisitorDep) -> Form:
    return await read_form(request, MAX_BODY_BYTES)


FormDep = Annotated[Form, Depends(_form)]
"""The form of somebody who is signed in."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What was refused, by the names of the form's fields; the blank has what belongs to none."""

    by_field: dict[str, list[str]] = field(default_factory=dict)

    def at(self, name: str) -> str:
        """What is wrong with a field; blank when nothing is."""
        return "; ".join(self.by_field.get(name, ()))

    @property
    def all(self) -> list[tuple[str, str]]:
        """Every fault with its field, in order."""
        return [(name, message) for name, messages in self.by_field.items() for message in messages]


def faults_at(errors: Iterable[FieldError], fields: Iterable[str], message: str = "") -> Faults:
    """The faults at the fields whose members they are about.

    A fault goes to the longest field's name that its place begins with, where names are places joined with dots.
    """
    known = sorted(fields, key=len, reverse=True)
    found: dict[str, list[str]] = {}
    for error in errors:
        place = ".".join(map(str, error.loc))
        name = next((one for one in known if place == one or place.startswith(f"{one}.")), "")
        rest = place.removeprefix(name).removeprefix(".")
        found.setdefault(name, []).append(f"{rest}: {error.msg}" if rest else error.msg)
    if not found and message:
        found[""] = [message]
    return Faults(found)


def header_lines(field: str, text: str, example: str) -> dict[str, str]:
    """The headers in a field, one a line. Raises InvalidDefinition, without what was typed."""
    headers: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or name.strip() in headers:
            why = "must be a name, a colon and a value" if not colon else "has a header that stands above already"
            raise InvalidDefinition(FieldError((field,), f"line {number} {why}, such as {example}"))
        headers[name.strip()] = value.strip()
    return headers


def key_expiry(form: Form, now: datetime) -> dict[str, str]:
    """When a key that the form asks for ends, as a member of `KeyBody`; nothing where it never does.

    Raises:
        InvalidDefinition: for another choice than the form's, which must not become a key that never ends.
    """
    days = form.text("lasts")
    if days not in KEY_DAYS:
        raise InvalidDefinition.at(("lasts",), "must be 30, 90 or 365 days, or blank for a key that never ends")
    return {"expires_at": (now + timedelta(days=int(days))).isoformat()} if days else {}
