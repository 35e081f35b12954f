"""How REST shows a request on its way: headers, sizes, the connection and timings, of attempts and of tests alike."""

from __future__ import annotations

from dispatcher.control.bodies import View


class HeaderView(View):
    """A header of an answer."""

    name: str
    """Blank where no header is shown but the reason why not, or the rest of a line that was cut."""
    value: str


class ConnectionView(View):
    """The connection of a request."""

    remote_address: str | None
    """`address:port`; the one that was tried last, where none answered. Null for members of an entity whose
    `answers_hidden` is true, and where no address was known or allowed."""
    tls_version: str | None
    """Such as `TLSv1.3`; null on plain http."""
    reused: bool
    """Whether the connection had served a request before. Then nothing was looked up or connected to."""


class TimingsView(View):
    """How long each step of a request took, in milliseconds; null for a step that was not needed or not reached."""

    lookup_ms: float | None
    """Looking up the name."""
    connect_ms: float | None
    """TCP."""
    handshake_ms: float | None
    """TLS."""
    first_byte_ms: float | None
    """From when the request was written until the first byte of the answer."""
