"""Celery's transport for Redis and Valkey: kombu's own, without what a wake has no use for (decision 13).

kombu writes down each message that a worker has taken and not acknowledged yet, to deliver it again one day. A wake may
be lost, since the pump's sweep makes up for it; so this transport only counts what a worker holds. It must stay a thin
layer: what it takes over from kombu is named at each method, and tests/integration/test_broker.py notices a change.
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
"""Of a server behind a port or a socket."""
SENTINEL_SCHEME = "sentinel"


class InMemoryQoS(_QoS):  # type: ignore[misc]
    """The messages that a worker has taken and not begun: as many as it prefetches, and known to nobody else.

    `ack` may be called from any thread, and wakes the worker's loop only if that waits for it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._full = False

    def can_consume(self) -> bool:
        """Whether one more may be taken."""
        if super().can_consume():
            return True
        self._full = True  # before the second look: an `ack` after it sees this, one before it is seen
        return bool(super().can_consume())

    def ack(self, delivery_tag: str) -> None:
        """Forget a message: it has begun."""
        super().ack(delivery_tag)
        if self._full:
            self._full = False
            loop = get_event_loop()
            if loop is not None:
                loop.call_soon(_look_again)

    def restore_unacked(self) -> list[Any]:
        """Give back what was not begun. Where the broker is away it is lost, which the sweep makes up for."""
        self._flush()
        messages = list(self._delivered.values())
        self._delivered.clear()
        with suppress(RedisError, OSError):
            self.channel.put_back(messages)
        return []


def _look_again() -> None:
    """Nothing to do but to let the loop go round, which looks at what can be taken."""


class Channel(_Channel):  # type: ignore[misc]
    """kombu's channel with one client for all its commands."""

    ack_emulation = False
    """No notes of what is not acknowledged (kombu's own option)."""
    _client_of_all: Redis | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS = InMemoryQoS  # kombu has put its plain one here because of `ack_emulation`

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """A client for a command; kombu makes a new one each time, at 100 µs."""
        if client is None:
            client = self._client_of_all
        if client is None:
            client = self._client_of_all = self._create_client()
        yield client

    def _disconnect_pools(self) -> None:
        self._client_of_all = None  # a fork or a close ends its pool
        super()._disconnect_pools()

    def push_many(self, queue: str, texts: Iterable[bytes]) -> None:
        """Append encoded messages to a queue, all at once. Raises RedisError."""
        with self.conn_or_acquire() as client:
            client.lpush(queue, *texts)

    def put_back(self, messages: Iterable[Any]) -> None:
        """Messages that were taken go before all others of their queues. Raises RedisError."""
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
    """A worker's loop that is told of each socket once. kombu tells it of all its sockets in every round."""

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
        """Take part in a worker's loop."""
        super().register_with_event_loop(connection, _Loop(loop))


class SentinelChannel(Channel, redis.SentinelChannel):  # type: ignore[misc]
    """The same to the master that Sentinels name.

    It knows by itself who logs in, as what kombu is told is shown to whoever asks a worker for its statistics.
    """

    address = RedisAddress()

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
    """Let kombu speak to Redis and Valkey through this transport, in this process, and to the Sentinels given.

    By the scheme, since that is how kombu finds a transport for each URL of a list, and for a socket.
    """
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = f"{Transport.__module__}:{Transport.__name__}"
    if sentinel is not None:
        TRANSPORT_ALIASES[SENTINEL_SCHEME] = f"{SentinelTransport.__module__}:{SentinelTransport.__name__}"
        SentinelChannel.address = sentinel
