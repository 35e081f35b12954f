"""Looking up addresses for connections, with a short memory."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import Any

RESOLVED_SECONDS = 10.0
"""How long a name is not looked up again."""


AddressInfo = tuple[Any, ...]


def literal_address(host: str, port: int) -> list[AddressInfo]:
    """An address that needs no look-up; nothing for a name, and for a spelling that only a resolver understands."""
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
    """Names looked up a moment ago, and look-ups underway, which all who ask at the same time wait for."""

    known: dict[tuple[str, int], tuple[float, asyncio.Task[list[AddressInfo]]]] = field(default_factory=dict)

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        now, key = asyncio.get_running_loop().time(), (host, port)
        until, task = self.known.get(key, (0.0, None))
        if task is None or (task.done() and now >= until):
            self._forget(now)
            task = asyncio.create_task(resolve(host, port))
            self.known[key] = (now + RESOLVED_SECONDS, task)
        try:
            return await asyncio.shield(task)
        except OSError:
            self.known.pop(key, None)  # not remembered: it may be there the next time
            raise

    def _forget(self, now: float) -> None:
        for key, (until, task) in list(self.known.items()):
            if task.done() and now >= until:
                del self.known[key]

    def close(self) -> None:
        for _until, task in self.known.values():
            task.cancel()
        self.known.clear()
