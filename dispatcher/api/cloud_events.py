"""What CloudEvents says in HTTP headers: an event's attributes in binary mode, its trace, and the webhook handshake.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md, section 3.1, and
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md, section 4. Must not judge an event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers

from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.limits import MAX_EVENT_BYTES
from shared.observability.trace_context import TRACEPARENT, producer_context, read_traceparent

EVENTS_PATH: Final = "/v1/events"
IN_PATH: Final = "/v1/in/"
_PREFIX = "ce-"
_REQUIRED = ("specversion", "id", "source", "type")
_NAME = re.compile(r"[a-z0-9]{1,64}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_OF_BODY = frozenset({"data", "datacontenttype"})
"""Members that the body and its media type stand for."""
ORIGIN_HEADER = "WebHook-Request-Origin"
_ORIGIN = re.compile(r"[A-Za-z0-9._:/-]{1,253}", re.ASCII)


def binary_attributes(headers: Headers) -> dict[str, str] | None:
    """The attributes of an event in binary mode, by name; None when no header has a required one.

    Raises:
        InvalidDefinition: with a fault for each header that comes twice or is not UTF-8, named as its attribute.
    """
    if not any(f"{_PREFIX}{name}" in headers for name in _REQUIRED):
        return None
    attributes: dict[str, str] = {}
    faults: list[FieldError] = []
    for field, value in headers.items():
        name = field.removeprefix(_PREFIX)
        if name == field or not _NAME.fullmatch(name) or name in _OF_BODY:
            continue
        if name in attributes:
            faults.append(FieldError((name,), f"must be in one header, {_PREFIX}{name}, and not in several"))
            continue
        try:
            attributes[name] = _decoded(value)
        except UnicodeDecodeError:
            faults.append(FieldError((name,), f"must be UTF-8, percent-encoded in the header {_PREFIX}{name}"))
            attributes[name] = ""
    if faults:
        raise InvalidDefinition(*faults)
    return attributes


def _decoded(value: str) -> str:
    """A header's value as section 3.1.3.2 writes it: perhaps quoted, and what is no plain ASCII as percent-encoded
    UTF-8."""
    quoted = _QUOTED.fullmatch(value.strip())
    text = _ESCAPED.sub(r"\1", quoted[1]) if quoted else value
    return unquote_to_bytes(text.encode("latin-1", "replace")).decode()


def with_trace_of_request(texts: Sequence[bytes], headers: Headers) -> Sequence[bytes]:
    """The events' JSON, those without a trace of their own with that of the request's `traceparent` header."""
    header = headers.get(TRACEPARENT)
    if header is None or read_traceparent(header) is None:
        return texts
    return [text if producer_context(text) else _with_member(text, header) for text in texts]


def _with_member(text: bytes, header: str) -> bytes:
    carrying = b'%s,"%s":"%s"}' % (text.rstrip()[:-1], TRACEPARENT.encode(), header.encode())
    return carrying if len(carrying) <= MAX_EVENT_BYTES else text


def handshake_answer(path: str, headers: Headers) -> dict[str, str] | None:
    """The headers that allow a sender to deliver here; None when it does not ask for that, or by no fit name.

    A sender that asks is allowed, at any rate, whether or not there is such a source. What it delivers needs a key or a
    proof all the same, so no callback is called.
    """
    origin = headers.get(ORIGIN_HEADER, "")
    if not (path == EVENTS_PATH or path.startswith(IN_PATH)) or not _ORIGIN.fullmatch(origin):
        return None
    return {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
