"""One request to a hostile endpoint, and what has to hold of every outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.http.client import WebhookClient
from shared.http.request import Request
from shared.settings import load_settings
from tests.integration.http.hostile import Behaviour, Endpoint, Visit, behaving

Run = Callable[[Coroutine[Any, Any, None]], None]

SECRETS = ("secret-in-query", "secret-in-header", "secret-in-body")
ENOUGH_SECONDS = 20.0
SOON_SECONDS = 0.4
TOO_LATE = f"no answer within {SOON_SECONDS} s"


@asynccontextmanager
async def opened(allowed: str = "127.0.0.0/8", **others: Any) -> AsyncIterator[WebhookClient]:
    """A sender that may go to these networks, closed at the end."""
    sender = WebhookClient(load_settings(allowed_networks=allowed, **others))
    try:
        yield sender
    finally:
        await sender.aclose()


def request(
    url: str, *, within: float = ENOUGH_SECONDS, connect: float = 5.0, headers: dict[str, str] | None = None
) -> Request:
    """A request with a secret wherever one can be."""
    return Request(
        url=f"{url}/hooks?token=secret-in-query",
        body=b'{"key": "secret-in-body"}',
        headers={"Content-Type": "application/json", "Authorization": "Bearer secret-in-header", **(headers or {})},
        timeout_seconds=within,
        connect_timeout_seconds=connect,
    )


async def send(
    sender: WebhookClient,
    endpoint: Endpoint | str,
    *,
    within: float = ENOUGH_SECONDS,
    headers: dict[str, str] | None = None,
) -> Outcome:
    """One request; its outcome's error never repeats a secret."""
    url = endpoint if isinstance(endpoint, str) else f"http://127.0.0.1:{endpoint.port}"
    outcome = await sender.send(request(url, within=within, headers=headers))
    assert outcome.duration_seconds >= 0
    assert not any(secret in (outcome.error or "") for secret in SECRETS)
    assert (outcome.error is None) is (outcome.status is not None)
    return outcome


async def gone(visit: Visit) -> None:
    """Wait until the client has closed a connection."""
    await asyncio.wait_for(visit.gone.wait(), ENOUGH_SECONDS)


def failing(behaviour: Behaviour, *, within: float = ENOUGH_SECONDS) -> Coroutine[Any, Any, Outcome]:
    """What comes of one request to an endpoint that behaves like this; its connection is closed in any case."""

    async def scenario() -> Outcome:
        async with behaving(behaviour) as endpoint, opened() as sender:
            outcome = await send(sender, endpoint, within=within)
            for visit in endpoint.visits:
                await gone(visit)
            return outcome

    return scenario()


def check(run: Run, outcome: Coroutine[Any, Any, Outcome], kind: OutcomeKind, error: str | None) -> None:
    """Run what makes an outcome, and expect it to be of this kind with these words."""

    async def scenario() -> None:
        found = await outcome
        assert (found.kind, found.error) == (kind, error)

    run(scenario())
