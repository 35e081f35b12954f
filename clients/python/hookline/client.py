"""`Client`: publishes events now, and says what became of them."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hookline import batches, transport
from hookline.configuration import Endpoint
from hookline.errors import Fault, Refused, Unreachable
from hookline.events import Event
from hookline.transport import HttpTransport, Transport

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self

OnError = Callable[[Exception], None]
log = logging.getLogger("hookline")
NOWHERE = Endpoint("http://recorded.invalid", "recorded")
"""The endpoint while a test records, if none is configured."""


class Client:
    """Publishes to one Hookline; a context manager, and safe to use from several threads.

    `url` and `api_key` are HOOKLINE_URL and HOOKLINE_API_KEY unless they are given. While Hookline can't be reached or
    is busy, a batch is tried again for `patience_seconds`; each try waits up to `timeout_seconds` for its answer. An
    event that arrives twice fires once, so a repeat does no harm.

    Refused events are taken out of their batch and the others are sent. With `on_error`, it is called for them with
    `Refused`; without, `publish` raises it at the end.

    Raises:
        InvalidConfiguration: naming the variable.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience_seconds: float = 60.0,
        timeout_seconds: float = 30.0,
        on_error: OnError | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        own = transport.substituted()
        if own is not None and url is None:
            self._endpoint, self._transport = NOWHERE, own
        else:
            self._endpoint = Endpoint.of(url, api_key)
            self._transport = HttpTransport(self._endpoint, timeout_seconds=timeout_seconds, context=ssl_context)
        self._patience_seconds = patience_seconds
        self._on_error = on_error

    @property
    def url(self) -> str:
        """Where it publishes to."""
        return self._endpoint.url

    @property
    def spool_name(self) -> str:
        """A name for what is kept for this Hookline and key; it does not tell them."""
        url, key = (hashlib.sha256(text.encode()).hexdigest()[:12] for text in (self.url, self._endpoint.api_key))
        return f"{url}-{key}"

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next `publish` opens another."""
        self._transport.close()

    def publish(self, events: Event | Iterable[Event | Mapping[str, Any] | bytes]) -> int:
        """Publish events in order, and return how many were accepted once Hookline has them.

        Raises:
            InvalidEvent: before anything was sent.
            Refused: after everything else was sent, with the events that Hookline refused.
            Unreachable: after the last try; events of later batches were not sent. Publish all of them again.
        """
        accepted = 0
        refusals: list[tuple[bytes, tuple[Fault, ...]]] = []
        for batch in batches.cut(batches.encoded_all(events)):
            outcome = self.publish_batch(batch, patience_seconds=self._patience_seconds, accepted=accepted)
            accepted += outcome.accepted
            refusals += outcome.refusals
        report(refusals, accepted, self._on_error)
        return accepted

    def publish_batch(self, batch: list[bytes], *, patience_seconds: float = 0.0, accepted: int = 0) -> batches.Outcome:
        """Send one batch of at most 1,000 events and 8 MiB, taking out what is refused. For relays.

        Raises:
            Refused: when Hookline refuses this publisher.
            Unreachable: when it could not be sent in time.
        """
        outcome = batches.Outcome.of(batch)
        patience = batches.Patience(patience_seconds)
        while outcome.pending:
            try:
                outcome.take(self._sender().post(batches.body(outcome.pending[0])), self.url)
                patience.renew()
            except Unreachable as exc:
                if (wait_seconds := patience.wait_seconds(exc)) is None:
                    exc.accepted = accepted + outcome.accepted
                    raise
                log.info("trying again in %.1f s: %s", wait_seconds, exc)
                time.sleep(wait_seconds)
            except Refused as exc:
                exc.accepted += accepted
                raise
        return outcome

    def _sender(self) -> Transport:
        own = transport.substituted()
        return self._transport if own is None else own


def report(refusals: list[tuple[bytes, tuple[Fault, ...]]], accepted: int, on_error: OnError | None) -> None:
    """Tell of events that were taken out of their batches, if there are any. Raises Refused without `on_error`."""
    if not refusals:
        return
    error = refused(refusals, accepted)
    if on_error is None:
        raise error
    on_error(error)


def refused(refusals: list[tuple[bytes, tuple[Fault, ...]]], accepted: int) -> Refused:
    """The exception for events that were taken out of their batches."""
    first = "; ".join(map(str, refusals[0][1]))
    more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    return Refused(
        f"{len(refusals)} events were refused: {first}{more}", status=422, refusals=refusals, accepted=accepted
    )
