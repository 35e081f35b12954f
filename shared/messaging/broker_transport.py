"""Celery's transport for Redis and Valkey: kombu's own, less what a wake-up does not need (decision 13).

kombu records in Redis each message that a worker has taken and not acknowledged yet, to deliver it again later. A
wake-up may be lost, since the pump's sweep sends another; so this transport only counts the messages that a worker
holds. It must stay a thin layer: it relies on kombu's internals, and test_broker_transport.py notices when they change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kombu.asynchronous import get_event_loop
from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis import Redis
from redis.exceptions import RedisError

from shared.config.server_urls import RedisAddress

# As Any: the stubs of kombu know little of what is inside.
_QoS: Any = virtual.QoS
_Channel: Any = redis.Channel
_Transport: Any = redis.Transport

SCHEMES = ("redis", "rediss")
"""The URL schemes of a server behind a port or a socket."""
SENTINEL_SCHEME = "sentinel"


class InMemoryQoS(_QoS):  # type: ignore[misc]
    """The messages that a worker has taken and whose tasks have not begun, kept in its memory only.

    The worker's loop calls `can_consume`; any thread of its pool may call `ack`. They share the set of messages, which
    kombu keeps, and `_full`. No lock is needed for `_full`: its reads and writes are atomic, and `can_consume` sets it
    before it looks once more. An `ack` after that look sees it and wakes the loop; an `ack` before has made the room
    that the look finds. Two threads that both see it wake the loop twice, which does no harm.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._full = False
        """Whether the loop found no room for another message, and waits to be told of some."""

    def can_consume(self) -> bool:
        """Whether the worker may take one more message."""
        if super().can_consume():
            return True
        self._full = True
        return bool(super().can_consume())

    def ack(self, delivery_tag: str) -> None:
        """Forget a message, since its task has begun."""
        super().ack(delivery_tag)
        if self._full:
            self._full = False
            loop = get_event_loop()
            if loop is not None:
                loop.call_soon(_wake_loop)

    def restore_unacked(self) -> list[Any]:
        """Return the messages that were not begun to their queues. Without a broker they are lost; the sweep
        recovers."""
        self._flush()
        messages = list(self._delivered.values())
        self._delivered.clear()
        with suppress(RedisError, OSError):
            self.channel.put_back(messages)
        return []


def _wake_loop() -> None:
    """Does nothing: a loop that has something to call goes round, and asks `can_consume` on its way."""


class Channel(_Channel):  # type: ignore[misc]
    """kombu's channel with one client for all its commands."""

    ack_emulation = False
    """Whether unacknowledged messages are recorded in Redis (kombu's own option)."""
    _shared_client: Redis | None = None
    """Made at the first command; None also after a fork, whose child must not use the parent's connections. A channel
    is used by one thread at a time, as kombu asks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS = InMemoryQoS  # kombu has put its plain one here because of `ack_emulation`

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """A client for a command. kombu makes a new one for each, which takes 100 µs."""
        if client is None:
            client = self._shared_client
        if client is None:
            client = self._shared_client = self._create_client()
        yield client

    def _disconnect_pools(self) -> None:
        self._shared_client = None  # kombu calls this after a fork and at a close
        super()._disconnect_pools()

    def push_many(self, queue: str, texts: Iterable[bytes]) -> None:
        """Append encoded messages to a queue, in one command. Raises RedisError."""
        with self.conn_or_acquire() as client:
            client.lpush(queue, *texts)

    def put_back(self, messages: Iterable[Any]) -> None:
        """Return messages that were taken to the heads of their queues. Raises RedisError."""
        try:
            with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
                for message in messages:
                    info = message.delivery_info
                    self._do_restore_message(message._raw, info["exchange"], info["routing_key"], pipeline)
                pipeline.execute()
        finally:
            if self.closed:
                self._disconnect_pools()


class _Loop:
    """A worker's event loop, to which each socket is added once. kombu adds all its sockets again in every round."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def add_reader(self, fd: int, callback: Any, *args: Any) -> None:
        if self._loop.readers.get(fd) != (callback, args):
            self._loop.add_reader(fd, callback, *args)


class Transport(_Transport):  # type: ignore[misc]
    """kombu's transport with the channel and the loop above."""

    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Add the connection's sockets to a worker's event loop."""
        super().register_with_event_loop(connection, _Loop(loop))


class SentinelChannel(Channel, redis.SentinelChannel):  # type: ignore[misc]
    """The same channel to the master that the Sentinels name.

    Its login does not pass through kombu's options, which `celery inspect stats` shows to everybody.
    """

    address = RedisAddress()
    """Set once, by `register_transports` at the start of a process."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {**super()._connparams(asynchronous), **self.address.login, "db": self.address.database}

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        timeouts = {"socket_timeout": self.socket_timeout, "socket_connect_timeout": self.socket_connect_timeout}
        self.sentinel_kwargs = {**self.address.sentinel_session, **timeouts}
        return super()._sentinel_managed_pool(asynchronous)


class SentinelTransport(Transport, redis.SentinelTransport):
    """kombu's transport for Sentinel with the channel and the loop above."""

    Channel = SentinelChannel


def register_transports(sentinel: RedisAddress | None = None) -> None:
    """Make kombu use this transport in this process, for Redis and Valkey and for the Sentinels given.

    It replaces kombu's entries by URL scheme, since that is how kombu finds a transport for each URL of a list, and for
    a socket.
    """
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = f"{Transport.__module__}:{Transport.__name__}"
    if sentinel is not None:
        TRANSPORT_ALIASES[SENTINEL_SCHEME] = f"{SentinelTransport.__module__}:{SentinelTransport.__name__}"
        SentinelChannel.address = sentinel
