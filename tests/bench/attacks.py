"""What a member with one API key does to an instance over HTTP, in a process of its own: `attacks NAME URL KEY`.

It goes on until SIGTERM, over many connections, and pays no heed to `Retry-After`. It is niced, since a real one has a
machine of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import httpx
import orjson

from tests.bench.events import EVENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

ENTITY: Final = "strangers"
PROJECT: Final = "theirs"
BASE: Final = f"/v1/entities/{ENTITY}"
WEBHOOK: Final = "sink"
CONNECTIONS: Final = 45
NICENESS: Final = 10
TEXT: Final = "ab" * 7000
PATTERNS: Final = [f"(a?b?){{{times}}}c" for times in range(60, 76)]
"""About the most that a definition may have."""

Client = httpx.AsyncClient
Attack = tuple[int, "Callable[[Client, int], Coroutine[Any, Any, object]]"]


def event(number: int, metadata: dict[str, Any], *, project: str = PROJECT) -> dict[str, Any]:
    """An event of the member's entity; its number decides its partition."""
    return {
        "specversion": "1.0",
        "id": f"theirs-{number}-{os.urandom(4).hex()}",
        "source": "/platform/bench-1",
        "type": EVENT_TYPE,
        "data": {
            "entity": ENTITY,
            "project": project,
            "author": "mallory",
            "collection": {"name": f"c{number}", "type": "model"},
            "artifact": {"id": "QQ==", "version": "v1", "metadata": metadata},
            "alias": "production",
        },
    }


def costly_filter() -> dict[str, Any]:
    """As much work on an event as one filter may ask for."""
    return {"$or": [{"metadata.k": {"$regex": pattern}} for pattern in PATTERNS[:4]]}


async def _dry_runs(client: Client, number: int) -> object:
    definition = {"name": "d", "event": EVENT_TYPE, "filter": costly_filter(), "action": {"webhook": WEBHOOK}}
    events = [event(number, {"k": TEXT}) for _ in range(300)]
    return await client.post(f"{BASE}/automations/dry-run", json={"definition": definition, "events": events})


async def _exports(client: Client, number: int) -> object:
    return await client.get(f"{BASE}/export" if number % 2 else f"{BASE}/deliveries/export?format=jsonl")


async def _lists(client: Client, number: int) -> object:
    return await client.get(f"{BASE}/{('automations', 'deliveries')[number % 2]}?limit=500")


async def _graphql(client: Client, _number: int) -> object:
    fields = " ".join(f'a{index}: triggers(filters: "{{}}") {{ edges {{ node {{ name }} }} }}' for index in range(10))
    return await client.post("/graphql", json={"query": f'{{ entity(name: "{ENTITY}") {{ {fields} }} }}'})


async def _webhook_tests(client: Client, _number: int) -> object:
    webhooks = (await client.get(f"{BASE}/webhooks")).json()["items"]
    return await client.post(f"{BASE}/webhooks/{webhooks[0]['id']}/test", json={})


async def _bodies(client: Client, number: int) -> object:
    path = (f"{BASE}/apply", f"{BASE}/automations/dry-run", f"{BASE}/automations")[number % 3]
    body = b'{"automations": [' + b'{"a": 1},' * ((7 if number % 3 < 2 else 1) * 100_000) + b"1]}"
    return await client.post(path, content=body, headers={"Content-Type": "application/json"})


async def _edits(client: Client, number: int) -> object:
    automations = (await client.get(f"{BASE}/automations?limit=10")).json()["items"]
    one = automations[number % len(automations)]
    return await client.patch(f"{BASE}/automations/{one['id']}", json={"description": os.urandom(4).hex()})


ATTACKS: Final[dict[str, Attack]] = {
    "dry runs": (CONNECTIONS, _dry_runs),
    "exports": (CONNECTIONS, _exports),
    "lists": (CONNECTIONS, _lists),
    "GraphQL scans": (CONNECTIONS, _graphql),
    "webhook tests": (CONNECTIONS, _webhook_tests),
    "large bodies": (CONNECTIONS, _bodies),
    "edits": (10, _edits),
}
"""By name: over how many connections, and one request."""


async def attack(name: str, url: str, key: str) -> None:
    """One attack until the process ends."""
    connections, request = ATTACKS[name]
    headers, limits = {"Authorization": f"Bearer {key}"}, httpx.Limits(max_connections=connections)
    async with Client(base_url=url, headers=headers, timeout=120, trust_env=False, limits=limits) as client:

        async def go_on(number: int) -> None:
            while True:
                try:
                    await request(client, number)
                except (httpx.HTTPError, orjson.JSONDecodeError, LookupError):
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(go_on(number) for number in range(connections)))


if __name__ == "__main__":
    os.nice(NICENESS)
    asyncio.run(attack(*sys.argv[1:]))
