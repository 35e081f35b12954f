"""A stand-in for Hookline's API over real HTTP, which can be away, busy or picky; and an environment that is empty."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

KEY = "hlk-test-key-0123456789"


class Api:
    """Answers `POST /v1/events` as Hookline does."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        """Every event of every batch that was accepted, repeats included."""
        self.bodies: list[bytes] = []
        self.script: list[tuple[int, dict[str, str], Any]] = []
        """Answers to give first, whatever comes."""
        self.refuses: Callable[[dict[str, Any]], str | None] = lambda event: None
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve; after `stop` on the same port again."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, answer = api.answer(self.path, dict(self.headers), body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Be away: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
        self.bodies.append(body)
        if self.script:
            return self.script.pop(0)
        if headers.get("Authorization") != f"Bearer {KEY}":
            return 401, {}, {"detail": "unknown key"}
        if path != "/v1/events" or headers["Content-Type"] != "application/cloudevents-batch+json":
            return 415, {}, {"detail": "wrong type"}
        batch = json.loads(body)
        assert isinstance(batch, list) and 1 <= len(batch) <= 1000
        faults = [(index, said) for index, event in enumerate(batch) if (said := self.refuses(event))]
        if faults:
            errors = [{"loc": [index, "data", "project"], "msg": said} for index, said in faults]
            return 422, {}, {"detail": "no", "errors": errors}
        self.events += batch
        return 202, {}, {"accepted": len(batch)}

    def ids(self) -> list[str]:
        """The ids of the accepted events, each once, in order."""
        return list(dict.fromkeys(event["id"] for event in list(self.events)))


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine's, no home of a person's, no proxy."""
    for name in list(os.environ):
        if name.startswith("HOOKLINE_") or name.lower().endswith("_proxy") or name in ("RANK", "SLURM_PROCID"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def api() -> Iterator[Api]:
    """A running one."""
    api = Api()
    api.start()
    yield api
    api.stop()


@pytest.fixture
def configured(api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Api:
    """The same, and HOOKLINE_* name it."""
    for name, value in environment(api, tmp_path / "spool").items():
        monkeypatch.setenv(name, value)
    return api


def environment(api: Api, spool: Path) -> dict[str, str]:
    """The variables by which a program finds it."""
    return {
        "HOOKLINE_URL": api.url,
        "HOOKLINE_API_KEY": KEY,
        "HOOKLINE_ENTITY": "acme",
        "HOOKLINE_SOURCE": "/test",
        "HOOKLINE_SPOOL": str(spool),
    }


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Waits for a condition, for a minute at most."""

    def wait(condition: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"no {what} within {seconds:g} s"
            time.sleep(0.02)

    return wait
