"""`make demo`: the whole way on recorded input, judged against an independent expectation.

Starts Hookline on its embedded default, stores secrets, applies `automations.yaml`, publishes `training_run.jsonl`,
lets the deliveries arrive at a local receiver, and exits 0 only if exactly what `examples.expectation` says has
arrived, once, rightly signed and rightly rendered, and the history agrees. It must not touch a service or data that
the user has.
"""

from __future__ import annotations

import base64
import json
import secrets as randomness
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from examples.board import Board
from examples.expectation import Firing, expected_firings
from examples.receiver import Endpoint, Received, Receiver
from examples.service import DemoFailed, HistoryRow, Service, finish
from examples.verdict import arrived, differences, leaks

HERE = Path(__file__).parent
MANIFEST = HERE / "automations.yaml"
RECORDING = HERE / "training_run.jsonl"
EVENTS_PER_SECOND = 70
FAILED_AT_FIRST = {"/team": 2}
# An edit is seen by every worker within a second: the time until the applied automations surely watch.
EDIT_SEEN_SECONDS = 2.0
DEADLINE_SECONDS = 60.0
SETTLED_SECONDS = 2.0
POLL_SECONDS = 0.25
INTERRUPTED = 130

Observed = tuple[list[Received], list[HistoryRow]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo defines, publishes and expects."""

    manifest: dict[str, Any]
    events: list[dict[str, Any]]
    secrets: dict[str, str]
    expected: list[Firing]

    @property
    def entity(self) -> str:
        """The entity that owns everything."""
        return str(self.manifest["entity"])

    @property
    def paths(self) -> dict[str, str]:
        """The receiver's path of each webhook."""
        return {webhook["name"]: urlsplit(webhook["url"]).path for webhook in self.manifest["webhooks"]}

    def endpoints(self) -> list[Endpoint]:
        """What the receiver demands on each path."""
        return [
            Endpoint(
                path=self.paths[webhook["name"]],
                access_token=self.secrets.get(webhook.get("access_token", "")),
                signing_secret=self.secrets.get(webhook.get("signing_secret", "")),
                fail_first=FAILED_AT_FIRST.get(self.paths[webhook["name"]], 0),
            )
            for webhook in self.manifest["webhooks"]
        ]

    def manifest_text(self, port: int) -> str:
        """The manifest with the receiver's port in its URLs."""
        webhooks = [
            webhook | {"url": urlsplit(webhook["url"])._replace(netloc=f"127.0.0.1:{port}").geturl()}
            for webhook in self.manifest["webhooks"]
        ]
        return yaml.safe_dump(self.manifest | {"webhooks": webhooks}, sort_keys=False, allow_unicode=True)


def make_plan() -> Plan:
    """Read the manifest and the recording, invent the secrets' values, and work out what must happen."""
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    events = [json.loads(line) for line in RECORDING.read_text(encoding="utf-8").splitlines()]
    secrets = make_secrets(manifest["webhooks"])
    return Plan(manifest, events, secrets, expected_firings(manifest, events, secrets))


def make_secrets(webhooks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A random value for each secret that the webhooks name; signing secrets in Standard Webhooks' form."""
    names = {name for webhook in webhooks for name in webhook.get("secrets", ())}
    names |= {webhook["access_token"] for webhook in webhooks if "access_token" in webhook}
    signing = {webhook["signing_secret"] for webhook in webhooks if "signing_secret" in webhook}
    values = {name: randomness.token_urlsafe(24) for name in sorted(names - signing)}
    return values | {name: f"whsec_{base64.b64encode(randomness.token_bytes(32)).decode()}" for name in sorted(signing)}


def define(service: Service, plan: Plan, manifest_file: Path) -> None:
    """Create the entity and its secrets, and apply the manifest."""
    service.put(f"/entities/{plan.entity}", {})
    for name, value in plan.secrets.items():
        service.put(f"/entities/{plan.entity}/secrets/{name}", {"value": value})
    service.run("apply", "-f", str(manifest_file))
    time.sleep(EDIT_SEEN_SECONDS)


def publish_and_watch(service: Service, plan: Plan, observe: Callable[[], Observed]) -> None:
    """Publish the recording; look on until what is expected has arrived and nothing moves any more, or it is late."""
    command = service.launch("publish", str(RECORDING), "--rate", str(EVENTS_PER_SECOND))
    try:
        while command.poll() is None:
            observe()
            service.check_alive()
            time.sleep(POLL_SECONDS)
        finish(command, "publish", deadline_seconds=1)
    finally:
        if command.poll() is None:
            command.kill()
            command.communicate()
    deadline = time.monotonic() + DEADLINE_SECONDS
    last, since = observe(), time.monotonic()
    while time.monotonic() < deadline:
        now = observe()
        if now != last or not _is_through(plan, now) or service.lag_entries() > 0:
            last, since = now, time.monotonic()
        elif time.monotonic() - since >= SETTLED_SECONDS:
            return
        time.sleep(POLL_SECONDS)


def _is_through(plan: Plan, observed: Observed) -> bool:
    """Whether at least as much has arrived, and been skipped, as is expected, and nothing is pending."""
    records, history = observed
    delivered = sum(firing.status == "delivered" for firing in plan.expected)
    return (
        len(arrived(records)) >= delivered
        and len(history) >= len(plan.expected)
        and all(row.status != "pending" for row in history)
    )


def demonstrate(plan: Plan, *, console: bool = False) -> list[str]:
    """Run everything, show it, and return what was not as expected.

    Args:
        console: whether the service goes on running at the end, for people to look at it, until they interrupt it.
    """
    board = Board(plan.manifest["automations"], plan.expected, plan.secrets)
    observed: Observed = ([], [])
    with (
        tempfile.TemporaryDirectory(prefix="hookline-demo-") as folder,
        Receiver(plan.endpoints()) as receiver,
        Service(Path(folder)) as service,
    ):
        board.say("Starting Hookline on its embedded default: Valkey, SQLite, workers, API ...")
        service.start()
        board.say(f"Ready on {service.url}; the receiver listens on http://127.0.0.1:{receiver.port}")
        manifest_file = Path(folder, "automations.yaml")
        manifest_file.write_text(plan.manifest_text(receiver.port), encoding="utf-8")
        define(service, plan, manifest_file)
        automations, webhooks = plan.manifest["automations"], plan.manifest["webhooks"]
        board.say(
            f"Defined {len(plan.secrets)} secrets, {len(webhooks)} webhooks, {len(automations)} automations; "
            f"publishing {len(plan.events)} events at {EVENTS_PER_SECOND} a second"
        )

        def observe() -> Observed:
            nonlocal observed
            observed = receiver.records(), service.history(plan.entity)
            board.show(*observed)
            return observed

        with board:
            publish_and_watch(service, plan, observe)
        records, history = observed
        board.account(records, history)
        texts = {f"the answer on delivery {row.id}": service.delivery_text(plan.entity, row.id) for row in history}
        if console:
            _open_console(board, service, plan.entity)
        exit_code = service.stop()
        texts["the service's log"] = service.log_text()
    problems = differences(plan.expected, records, history, plan.paths) + leaks(plan.secrets, texts)
    if exit_code != 0:
        problems.append(f"hookline up ended with {exit_code} after SIGTERM, not with 0")
    _say_verdict(board, plan, records, problems)
    return problems


def _open_console(board: Board, service: Service, entity: str) -> None:
    """Say where to look, and wait until somebody has looked enough."""
    key = service.make_reader(entity)
    board.say("")
    board.say("The service goes on running. Look at what fired, what did not and why in the console:")
    board.say(f"  {service.url}/console/e/{entity}")
    board.say(f"  sign in with the key {key}")
    board.say("It may look at everything and edit automations. Ctrl-C stops the service and removes its data.")
    with suppress(KeyboardInterrupt):
        service.wait()


def _say_verdict(board: Board, plan: Plan, records: Sequence[Received], problems: Sequence[str]) -> None:
    if problems:
        board.say(f"FAILED: {len(problems)} differences from the expectation")
        for problem in problems:
            board.say(f"  - {problem}")
        return
    skipped = sum(firing.status == "skipped" for firing in plan.expected)
    repeats = len(plan.events) - len({(event["source"], event["id"]) for event in plan.events})
    board.say(
        f"OK: {len(arrived(records))} deliveries arrived, each exactly once, with the right token and signatures and "
        f"the expected body, in {len(records)} requests; {skipped} skipped, as expected; {repeats} repeated event "
        "fired nothing again; no secret in the log or the history; the service stopped with exit code 0."
    )


def main() -> int:
    """Run the demo; 0 when everything was exactly as expected."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 1 if demonstrate(make_plan(), console="--console" in sys.argv[1:]) else 0
    except DemoFailed as exc:
        print(f"FAILED: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the service was stopped and its data removed", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
