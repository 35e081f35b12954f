"""The embedded Valkey: where its program comes from, and that only one at a time works on its files."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

import pytest
import redis

from dispatcher.up import valkey
from dispatcher.up.valkey import EmbeddedUnavailable, EmbeddedValkey, find_server
from shared.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shared.settings import Settings

DEADLINE_SECONDS = 60.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path / 'with "quotes" and spaces')


@contextmanager
def running(valkey: EmbeddedValkey) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(valkey.argv, pass_fds=(valkey.lock_fd,), stdout=subprocess.DEVNULL)
    try:
        asyncio.run(answers(valkey))
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)


async def answers(valkey: EmbeddedValkey) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await valkey.answers():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_writes_survive_a_kill(settings: Settings) -> None:
    for expected in (1, 2):
        valkey = EmbeddedValkey(settings)
        valkey.claim()
        with running(valkey), redis.Redis.from_url(settings.stream_url) as client:
            assert client.incr("starts") == expected
        valkey.release()


def test_it_serves_on_a_private_socket_only(settings: Settings) -> None:
    valkey = EmbeddedValkey(settings)
    valkey.claim()
    with running(valkey), redis.Redis.from_url(settings.stream_url) as client:
        assert settings.valkey_socket.stat().st_mode & 0o777 == 0o700
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    valkey.release()


def test_a_leftover_server_is_ended_in_order(settings: Settings) -> None:
    first = EmbeddedValkey(settings)
    first.claim()
    with running(first) as leftover:
        first.release()  # as when the supervisor is killed: now only the server holds the folder
        with redis.Redis.from_url(settings.stream_url) as client:
            client.set("kept", "yes")
        second = EmbeddedValkey(settings)
        second.claim()
        assert leftover.wait(DEADLINE_SECONDS) == 0
    with running(second), redis.Redis.from_url(settings.stream_url) as client:
        assert client.get("kept") == b"yes"
    second.release()


def test_a_leftover_server_that_does_not_end_is_left_alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "LEFTOVER_SECONDS", 0.0)
    monkeypatch.setattr(valkey, "ANSWER_SECONDS", 0.1)
    first = EmbeddedValkey(settings)
    first.claim()
    with running(first) as leftover:
        first.release()
        os.kill(leftover.pid, signal.SIGSTOP)
        with pytest.raises(EmbeddedUnavailable, match="an earlier Valkey still uses"):
            EmbeddedValkey(settings).claim()
        assert leftover.poll() is None


def test_nothing_answers_before_the_server_runs(settings: Settings) -> None:
    assert not asyncio.run(EmbeddedValkey(settings).answers())


def test_a_server_on_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-server"
    program.touch(mode=0o700)
    monkeypatch.setattr(valkey, "files", _not_installed)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == program


def test_without_a_server_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "files", _not_installed)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedUnavailable, match=r"pip install 'hookline\[embedded\]', or set HOOKLINE_REDIS_URL"):
        find_server()


def _not_installed(name: str) -> None:
    raise PackageNotFoundError(name)
