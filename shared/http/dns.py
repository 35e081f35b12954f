"""Looking up addresses for connections, with a short memory.

The system's resolver answers, in a thread. Must not choose among addresses or judge them: the pool connects
to them, and the egress guard checks each at its socket.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import Any

RESOLVED_SECONDS = 10.0
"""How long a name is not looked up again, whatever its TTL, which `getaddrinfo` does not tell.

An endpoint that moves is found after this at the latest. Half of it doubles the look-ups of a busy webhook; none at all
would make one for each new connection, in a thread.
"""


AddressInfo = tuple[Any, ...]


def literal_address(host: str, port: int) -> list[AddressInfo]:
    """The address that a URL's host spells, in getaddrinfo's form; empty for a name, or for any less usual spelling."""
    try:
        address = ip_address(host)
    except ValueError:
        return []
    if isinstance(address, IPv4Address):
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]


async def resolve(host: str, port: int) -> list[AddressInfo]:
    """The addresses of a name, as the system's resolver gives them. Raises socket.gaierror."""
    loop = asyncio.get_running_loop()
    host = host.replace("%25", "%")  # a zone, as RFC 6874 writes it in a URL
    try:
        return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))
    except UnicodeError:  # a label is empty or too long, so it is no name that could be known
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None


@dataclass(slots=True)
class DnsCache:
    """The answers of recent look-ups, and the look-ups underway, which all requests for the same name share.

    It is used on one event loop only, and `known` is changed between awaits only: no lock is needed.
    """

    known: dict[tuple[str, int], tuple[float, asyncio.Task[list[AddressInfo]]]] = field(default_factory=dict)
    """By host and port: the loop's time until which the answer counts, and the look-up."""

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """The addresses of a name, remembered or looked up. Raises socket.gaierror, which is not remembered."""
        now, key = asyncio.get_running_loop().time(), (host, port)
        until, task = self.known.get(key, (0.0, None))
        if task is None or (task.done() and now >= until):
            self._drop_expired(now)
            task = asyncio.create_task(resolve(host, port))
            self.known[key] = (now + RESOLVED_SECONDS, task)
        try:
            # Shielded: a request that times out must not cancel the look-up that others wait for.
            return await asyncio.shield(task)
        except OSError:
            # By now it may be a newer look-up that is dropped: then the name is looked up once more than needed.
            self.known.pop(key, None)
            raise

    def _drop_expired(self, now: float) -> None:
        for key, (until, task) in list(self.known.items()):
            if task.done() and now >= until:
                del self.known[key]

    def close(self) -> None:
        """Cancel the look-ups underway and forget everything."""
        for _until, task in self.known.values():
            task.cancel()
        self.known.clear()
