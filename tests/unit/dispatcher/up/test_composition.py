"""What `hookline up` is made of, as far as it runs without children."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from dispatcher.up import composition
from dispatcher.up.composition import CannotStart, absolute_database_url, listen
from dispatcher.up.supervisor import Child
from shared.config.server_urls import in_brackets
from shared.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////var/lib/hookline.db",
        "sqlite:///file:name?mode=memory&uri=true",
        "postgresql+psycopg://me:pa%40ss@db/hookline",
    ],
)
def test_database_urls_that_hold_everywhere_stay(url: str) -> None:
    assert absolute_database_url(url) == url


def test_a_relative_sqlite_file_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_database_url("sqlite:///data/h.db?timeout=5") == f"sqlite:///{tmp_path}/data/h.db?timeout=5"


def test_listen_takes_a_free_port_and_refuses_it_to_others() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert port > 0
        with pytest.raises(CannotStart, match=rf"can't listen on 127\.0\.0\.1:{port}: Address already in use"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("host.invalid", r"[A-Z][\w ]+"),  # the resolver's words
        ("::1%nosuch", r"[A-Z][\w ]+"),
        ("192.0.2.1", "Cannot assign requested address"),
        ("a..b\udc80", "this can't be the name of a host"),
    ],
)
def test_listen_names_a_host_that_is_not_here(host: str, reason: str) -> None:
    with pytest.raises(CannotStart) as caught:
        listen(host, 1234)
    assert re.fullmatch(rf"can't listen on {re.escape(host)}:1234: {reason}", str(caught.value))
    assert "Unknown" not in str(caught.value)


def test_the_data_directory_is_private_and_held(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with composition._data_dir(path):
        assert path.stat().st_mode & 0o777 == 0o700
        with (
            pytest.raises(CannotStart, match=r"another hookline up \(process \d+\) already runs on .*/a/b$"),
            composition._data_dir(path),
        ):
            pass
    with composition._data_dir(path):
        pass


def test_an_unusable_data_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="can't use the data directory"), composition._data_dir(tmp_path / "file"):
        pass


def test_children_share_directories_and_no_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "metrics").mkdir(parents=True)
    (tmp_path / "data" / "metrics" / "old.db").touch()
    settings = load_settings(data_dir="data", host="127.0.0.1")
    with listen("127.0.0.1", 0) as listener:
        environment = composition._environment(settings, port=4321)
        parts = composition._Parts(settings, listener=listener, environment=environment)
        children = [parts.worker(2), parts.dispatcher(), parts.api()]
        assert children[2].pass_fds == (listener.fileno(),)
    assert environment["HOOKLINE_DATA_DIR"] == str(tmp_path / "data")
    assert environment["HOOKLINE_DATABASE_URL"] == f"sqlite:///{tmp_path}/data/hookline.db"
    assert (environment["HOOKLINE_HOST"], environment["HOOKLINE_PORT"]) == ("127.0.0.1", "4321")
    assert environment["HOOKLINE_METRICS_PORT"] == "0"
    assert environment["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path / "data" / "metrics")
    assert list((tmp_path / "data" / "metrics").iterdir()) == []
    assert {child.cwd for child in children} == {tmp_path / "data"}
    assert "worker2@%h" in children[0].argv


@pytest.mark.parametrize(
    ("log_format", "printed"),
    [
        ("console", 'api    | {"event": "x"}\nvalkey | ready\n'),
        ("json", '{"event": "x"}\n'),
    ],
)
def test_lines_are_told_apart_unless_they_are_json(
    log_format: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    children = [Child(name="api", argv=()), Child(name="valkey", argv=())]
    relay = composition._relay(load_settings(log_format=log_format), [children])
    relay("api", '{"event": "x"}')
    relay("valkey", "ready")
    assert capsys.readouterr().err == printed


def test_an_ipv6_host_stands_in_brackets() -> None:
    assert in_brackets("::1") == "[::1]"
    assert in_brackets("127.0.0.1") == "127.0.0.1"


def test_listen_takes_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with listen("::1", 0) as listener:
            assert listener.family is socket.AF_INET6
    except CannotStart:
        pytest.skip("no IPv6 here")
