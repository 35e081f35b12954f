"""`AsyncClient`: `Client` for asyncio, over httpx (the extra `async`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hookline import batches, transport
from hookline.batches import Answer
from hookline.client import NOWHERE, OnError, report
from hookline.configuration import Endpoint
from hookline.errors import Fault, InvalidConfiguration, Refused, Unreachable
from hookline.events import Event

if TYPE_CHECKING:
    import httpx
    from typing_extensions import Self


class AsyncClient:
    """Publishes to one Hookline from an event loop; arguments, retries and exceptions are those of `Client`.

    `http` may be an `httpx.AsyncClient` of the caller's, which stays open.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience_seconds: float = 60.0,
        timeout_seconds: float = 30.0,
        on_error: OnError | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        is_recorded = transport.substituted() is not None and url is None
        self._endpoint = NOWHERE if is_recorded else Endpoint.of(url, api_key)
        self._patience_seconds = patience_seconds
        self._timeout_seconds = timeout_seconds
        self._on_error = on_error
        self._http, self._is_ours = http, http is None
        self._turn = asyncio.Lock()  # batches go one after another, so that they keep their order
        if not is_recorded and http is None:
            self._http = _open(timeout_seconds)

    @property
    def url(self) -> str:
        """Where it publishes to."""
        return self._endpoint.url

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, unless they are the caller's."""
        if self._http is not None and self._is_ours:
            await self._http.aclose()

    async def publish(self, events: Event | Iterable[Event | Mapping[str, Any] | bytes]) -> int:
        """Publish events in order, and return how many Hookline accepted. Raises what `Client.publish` raises."""
        texts = batches.encoded_all(events)
        accepted = 0
        refusals: list[tuple[bytes, tuple[Fault, ...]]] = []
        async with self._turn:
            for batch in batches.cut(texts):
                outcome = await self._publish_batch(batch, accepted)
                accepted += outcome.accepted
                refusals += outcome.refusals
        report(refusals, accepted, self._on_error)
        return accepted

    async def _publish_batch(self, batch: list[bytes], accepted: int) -> batches.Outcome:
        outcome = batches.Outcome.of(batch)
        patience = batches.Patience(self._patience_seconds)
        while outcome.pending:
            try:
                outcome.take(await self._post(batches.body(outcome.pending[0])), self.url)
                patience.renew()
            except Unreachable as exc:
                if (wait_seconds := patience.wait_seconds(exc)) is None:
                    exc.accepted = accepted + outcome.accepted
                    raise
                await asyncio.sleep(wait_seconds)
            except Refused as exc:
                exc.accepted += accepted
                raise
        return outcome

    async def _post(self, body: bytes) -> Answer:
        if (own := transport.substituted()) is not None:
            return own.post(body)
        import httpx

        assert self._http is not None  # noqa: S101 - opened when it was made
        try:
            response = await self._http.post(
                self.url + transport.PATH,
                content=body,
                headers=transport.headers(self._endpoint),
                timeout=self._timeout_seconds,
                follow_redirects=False,
            )
        except httpx.TransportError as exc:
            raise Unreachable(f"no answer from {self.url}: {exc or type(exc).__name__}") from exc
        return Answer(
            response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content
        )


def _open(timeout_seconds: float) -> httpx.AsyncClient:
    try:
        import httpx
    except ImportError as exc:
        raise InvalidConfiguration("AsyncClient needs httpx: pip install 'httpx>=0.27,<1'") from exc
    return httpx.AsyncClient(timeout=timeout_seconds)
