"""How a worker process is put together and let go: what is in use last is closed first, and nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine

from shared.http.client import WebhookClient
from shared.messaging.celery_app import celery_app
from shared.settings import Settings
from worker import bootstrap
from worker.bootstrap import build_process
from worker.delivery.background_recorder import BackgroundRecorder
from worker.process.event_loop import EventLoopThread
from worker.process.lazy_process import LazyProcess

CLOSED_IN_ORDER = ["recorder", "client", "loop", "tracing", "redis", "engine"]


class _Tracing:
    """Takes spans and keeps none."""

    def span(self, *_args: Any, **_more: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that were closed, in order."""
    closed: list[str] = []
    mine: list[object] = []

    def remember(opener: str) -> None:
        real = getattr(bootstrap, opener)

        def open_(*args: Any, **more: Any) -> Any:
            mine.append(real(*args, **more))
            return mine[-1]

        monkeypatch.setattr(bootstrap, opener, open_)

    def watch(name: str, owner: type, method: str, *, only_mine: bool = False) -> None:
        close = getattr(owner, method)

        def closes(self: Any, *args: Any, **more: Any) -> Any:
            # Others' clients are closed as the collector finds them.
            if name not in closed and (not only_mine or any(self is one for one in mine)):
                closed.append(name)
            return close(self, *args, **more)

        monkeypatch.setattr(owner, method, closes)

    remember("open_redis")
    remember("open_engine")
    watch("recorder", BackgroundRecorder, "close")
    watch("client", WebhookClient, "aclose")
    watch("loop", EventLoopThread, "stop")
    watch("tracing", _Tracing, "close")
    watch("redis", Redis, "close", only_mine=True)
    watch("engine", Engine, "dispose", only_mine=True)
    monkeypatch.setattr(bootstrap, "open_tracing", lambda _settings, _part: _Tracing())
    return closed


def test_parts_are_closed_in_the_reverse_order_of_who_needs_whom(
    settings: Settings, redis: Redis, closed: list[str]
) -> None:
    process = build_process(settings, celery_app(settings))
    process.redis.ping()
    assert closed == []
    process.close()
    assert closed == CLOSED_IN_ORDER
    process.close()  # once more does nothing
    assert closed == CLOSED_IN_ORDER


def test_where_one_part_cannot_be_closed_the_others_are(
    settings: Settings, redis: Redis, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: object) -> None:
        closed.append("tracing")
        raise OSError("the collector is away")

    monkeypatch.setattr(_Tracing, "close", fail)
    process = build_process(settings, celery_app(settings))
    with pytest.raises(OSError, match="the collector is away"):
        process.close()
    assert closed == CLOSED_IN_ORDER


def test_where_one_part_cannot_be_made_those_before_it_are_closed(
    settings: Settings, redis: Redis, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_settings: Settings, _part: str) -> None:
        raise OSError("no OpenTelemetry here")

    monkeypatch.setattr(bootstrap, "open_tracing", fail)
    with pytest.raises(OSError, match="no OpenTelemetry here"):
        build_process(settings, celery_app(settings))
    assert closed == ["redis", "engine"]


def test_a_process_is_made_once_and_after_a_fork_anew(settings: Settings, redis: Redis) -> None:
    lazy = LazyProcess(lambda: build_process(settings, celery_app(settings)))
    first = lazy.get()
    assert lazy.get() is first
    lazy._pid += 1  # as a child finds it
    second = lazy.get()
    assert second is not first
    lazy.close()
    first.redis.ping()  # the parent's
    first.close()
