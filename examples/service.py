"""The service under demonstration, from outside: its processes, its commands and its REST interface.

Uses only what any user has: the `hookline` command next to the interpreter, and HTTP. Must not import the service's
code.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

READY_DEADLINE_SECONDS = 90.0
STOP_DEADLINE_SECONDS = 45.0
COMMAND_DEADLINE_SECONDS = 60.0
WATCH_SECONDS = 1.0
_READY = re.compile(r"^hookline ready on (http://\S+)$", re.MULTILINE)
_HOOKLINE = Path(sys.executable).with_name("hookline")


class DemoFailed(Exception):
    """The demo cannot go on; the message says at what and what was printed there."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One delivery as the history shows it."""

    id: str
    automation: str
    webhook: str
    event_id: str
    status: str
    reason: str
    attempts: int


class Service:
    """`hookline up` on the embedded default; a context manager that leaves no process behind.

    Args:
        data_dir: an existing directory for the service's data and its log.
    """

    def __init__(self, data_dir: Path) -> None:
        self.log = data_dir / "hookline.log"
        self._data_dir = data_dir
        self.admin_key = f"hlk-{secrets.token_urlsafe(32)}"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self._api = httpx.Client(headers={"Authorization": f"Bearer {self.admin_key}"}, timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.close()
        self.stop()

    def start(self) -> None:
        """Start, and return when it serves. Raises DemoFailed when it ends or takes too long."""
        arguments = ["up", "--data-dir", str(self._data_dir / "data"), "--host", "127.0.0.1", "--port", "0"]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then stops the service in order.
            self._process = subprocess.Popen(
                [_HOOKLINE, *arguments], env=self._env(), stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + READY_DEADLINE_SECONDS
        while (ready := _READY.search(self.log_text())) is None:
            if self._process.poll() is not None:
                raise DemoFailed(f"hookline up ended with {self._process.returncode}:\n{self.log_text()[-4000:]}")
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"hookline up was not ready in {READY_DEADLINE_SECONDS:g} s:\n{self.log_text()[-4000:]}"
                )
            time.sleep(0.05)
        self.url = ready[1]
        self._api.base_url = httpx.URL(self.url)

    def stop(self) -> int | None:
        """SIGTERM and wait; the exit code, or None when there was nothing to stop. Kills what does not end in time."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def log_text(self) -> str:
        """Everything that the service and the commands printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def check_alive(self) -> None:
        """Raises DemoFailed when the service ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise DemoFailed(f"hookline up ended with {code} while it was needed:\n{self.log_text()[-4000:]}")

    def run(self, *arguments: str) -> None:
        """Run a `hookline` command to its end. Raises DemoFailed with its output when it fails."""
        try:
            finish(self.launch(*arguments), arguments[0], deadline_seconds=COMMAND_DEADLINE_SECONDS)
        finally:
            self.check_alive()

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a `hookline` command that talks to this service."""
        return subprocess.Popen(
            [_HOOKLINE, *arguments], env=self._env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def _env(self) -> dict[str, str]:
        """The environment without settings of a service that the user may run besides."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("HOOKLINE_")}
        env |= {"HOOKLINE_ADMIN_API_KEY": self.admin_key, "HOOKLINE_ALLOWED_NETWORKS": "127.0.0.0/8"}
        env |= {"HOOKLINE_URL": self.url, "HOOKLINE_API_KEY": self.admin_key} if self.url else {}
        return env | {"PYTHONUNBUFFERED": "1"}

    def make_reader(self, entity: str) -> str:
        """A new key with which a person may look at an entity. Raises DemoFailed when it is refused."""
        return self._make_key(entity, "reader", "member")

    def make_publisher(self, entity: str) -> str:
        """A new key with which a platform publishes an entity's events. Raises DemoFailed when it is refused."""
        return self._make_key(entity, "platform", "publisher")

    def _make_key(self, entity: str, name: str, role: str) -> str:
        made = self._answer("POST", "/v1/keys", json={"name": name, "entity": entity, "role": role})
        return str(made.json()["key"])

    def wait(self) -> None:
        """Wait until the service ends. Raises DemoFailed then: it is ended by `stop` only."""
        while True:
            self.check_alive()
            time.sleep(WATCH_SECONDS)

    def put(self, path: str, body: dict[str, Any]) -> None:
        """PUT under /v1. Raises DemoFailed with the answer when it is refused."""
        self._answer("PUT", f"/v1{path}", json=body)

    def history(self, entity: str) -> list[HistoryRow]:
        """All deliveries of an entity, page by page."""
        return [_row(item) for item in self._items(f"/v1/entities/{entity}/deliveries")]

    def delivery_text(self, entity: str, delivery_id: str) -> str:
        """One delivery with its attempts and its masked payload, as the interface answers it."""
        return self._answer("GET", f"/v1/entities/{entity}/deliveries/{delivery_id}").text

    def lag_entries(self) -> float:
        """How many published events are not yet evaluated; 0 when the metric is not exposed here."""
        families = text_string_to_metric_families(self._answer("GET", "/metrics").text)
        samples = (sample for family in families for sample in family.samples)
        return sum(sample.value for sample in samples if sample.name == "hookline_evaluation_lag_entries")

    def _items(self, path: str) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            page = self._answer("GET", path, params={"limit": 200} | ({"cursor": cursor} if cursor else {})).json()
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._api.request(method, path, **options)
        except httpx.HTTPError as exc:
            self.check_alive()
            raise DemoFailed(f"{method} {path}: {exc!r}") from exc
        if response.is_error:
            raise DemoFailed(f"{method} {path} was answered with {response.status_code}: {response.text}")
        return response


def finish(command: subprocess.Popen[bytes], name: str, *, deadline_seconds: float) -> str:
    """Wait for a command that `Service.launch` started. Raises DemoFailed with its output when it fails or is late."""
    try:
        output, _ = command.communicate(timeout=deadline_seconds)
    except subprocess.TimeoutExpired:
        command.kill()
        command.communicate()
        raise DemoFailed(f"hookline {name} took longer than {deadline_seconds:g} s") from None
    text = output.decode(errors="replace")
    if command.returncode:
        raise DemoFailed(f"hookline {name} ended with {command.returncode}:\n{text}")
    return text


def _row(item: dict[str, Any]) -> HistoryRow:
    return HistoryRow(
        id=item["id"],
        automation=(item["automation"] or {}).get("name", ""),
        webhook=(item["webhook"] or {}).get("name", ""),
        event_id=item["event"]["id"],
        status=item["status"],
        reason=item["reason"] or "",
        attempts=item["attempts"],
    )
