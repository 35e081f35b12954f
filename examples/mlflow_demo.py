"""`make demo-mlflow`: a training that logs to a real MLflow server fires automations, end to end.

    python -m examples.mlflow_demo PYTHON

Starts Hookline, `mlflow server` with the plugin, and `mlflow_training.py`, the last two with PYTHON, whose environment
has MLflow. Exits 0 only if exactly what `EXPECTED` says has arrived, once and rightly signed. It must not touch a
service or data that the user has.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from examples.demo import EDIT_SEEN_SECONDS, make_secrets
from examples.receiver import Endpoint, Received, Receiver
from examples.service import DemoFailed, Service

HERE = Path(__file__).parent
ENTITY = "acme"
EXPECTED = {
    "accuracy-reached": {"run": "sgd-0.05"},
    "training-failed": {"run": "sgd-500"},
    "deploy-champion": {"version": f"{ENTITY}/wandb-registry-model/digits-classifier:champion"},
}
"""The automations that must fire, each once, and what their payloads must say."""
DEADLINE_SECONDS = 240.0
SETTLED_SECONDS = 3.0
POLL_SECONDS = 0.25
# On a busy machine a worker's import takes longer than its supervisor's usual patience.
PATIENT = ("--uvicorn-opts", "--timeout-worker-healthcheck 120")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def differences(records: Sequence[Received]) -> list[str]:
    """What is not as expected in what arrived."""
    found = [f"{record.path}: {fault}" for record in records for fault in record.faults]
    bodies = [record.body for record in records if not record.faults]
    for name, members in EXPECTED.items():
        mine = [body for body in bodies if body["automation"] == name]
        if len({record.webhook_id for record in records if record.body in mine}) != 1:
            found.append(f"{name}: arrived {len(mine)} times, not once")
        for body in mine:
            found += [
                f"{name}: {member} is {body.get(member)!r}, not {value!r}"
                for member, value in members.items()
                if body.get(member) != value
            ]
    found += [f"{body['automation']}: must not fire" for body in bodies if body["automation"] not in EXPECTED]
    return found


@contextmanager
def mlflow_server(python: Path, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """A running `mlflow server` with two workers on SQLite; its URL. Raises DemoFailed when it does not serve."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log_file = folder / "mlflow.log"
    backend = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files"))
    command = [
        str(python),
        "-m",
        "mlflow",
        "server",
        *backend,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "2",
    ]
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [*command, *PATIENT], env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not _is_healthy(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed(f"mlflow server does not serve:\n{log_file.read_text(errors='replace')[-4000:]}")
            time.sleep(POLL_SECONDS)
        yield url
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    continue


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def manifest_text(manifest: dict[str, Any], port: int) -> str:
    """The manifest with the receiver's port in its URLs."""
    webhooks = [
        webhook | {"url": urlsplit(webhook["url"])._replace(netloc=f"127.0.0.1:{port}").geturl()}
        for webhook in manifest["webhooks"]
    ]
    return yaml.safe_dump(manifest | {"webhooks": webhooks}, sort_keys=False)


def endpoints(manifest: dict[str, Any], secrets: dict[str, str]) -> list[Endpoint]:
    """What the receiver demands on each path."""
    return [
        Endpoint(
            path=urlsplit(webhook["url"]).path,
            access_token=secrets.get(webhook.get("access_token", "")),
            signing_secret=secrets.get(webhook.get("signing_secret", "")),
        )
        for webhook in manifest["webhooks"]
    ]


def train(python: Path, folder: Path, environment: dict[str, str]) -> None:
    """Run the training to its end, and show what it prints. Raises DemoFailed when it fails."""
    command = [str(python), str(HERE / "mlflow_training.py")]
    process = subprocess.Popen(
        command, env=environment, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        output, errors = process.communicate(timeout=DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"the training took longer than {DEADLINE_SECONDS:g} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    for line in output.splitlines():
        if line and not line.startswith(("🏃", "🧪")):
            say(f"    {line}")
    if process.returncode:
        raise DemoFailed(f"the training ended with {process.returncode}:\n{errors[-4000:]}")


def watch(receiver: Receiver, service: Service) -> list[Received]:
    """What arrived, once there is enough of it and nothing moves any more, or it is late."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    records, since = receiver.records(), time.monotonic()
    while time.monotonic() < deadline:
        service.check_alive()
        now = receiver.records()
        if now != records or len(now) < len(EXPECTED) or service.lag_entries() > 0:
            records, since = now, time.monotonic()
        elif time.monotonic() - since >= SETTLED_SECONDS:
            break
        time.sleep(POLL_SECONDS)
    return records


def demonstrate(python: Path) -> list[str]:
    """Run everything, show it, and return what was not as expected."""
    manifest = yaml.safe_load((HERE / "mlflow_automations.yaml").read_text(encoding="utf-8"))
    secrets = make_secrets(manifest["webhooks"])
    with (
        tempfile.TemporaryDirectory(prefix="hookline-demo-") as name,
        Receiver(endpoints(manifest, secrets)) as receiver,
        Service(Path(name)) as service,
    ):
        folder = Path(name)
        say("Starting Hookline on its embedded default ...")
        service.start()
        service.put(f"/entities/{ENTITY}", {})
        for secret, value in secrets.items():
            service.put(f"/entities/{ENTITY}/secrets/{secret}", {"value": value})
        file = folder / "automations.yaml"
        file.write_text(manifest_text(manifest, receiver.port), encoding="utf-8")
        service.run("apply", "-f", str(file))
        time.sleep(EDIT_SEEN_SECONDS)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HOOKLINE_", "MLFLOW_"))}
        clean |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
        of_plugin = {
            "HOOKLINE_URL": service.url,
            "HOOKLINE_API_KEY": service.make_publisher(ENTITY),
            "HOOKLINE_ENTITY": ENTITY,
        }
        say(f"Ready on {service.url}; starting `mlflow server` with the plugin ...")
        with mlflow_server(python, folder, clean | of_plugin) as url:
            say(f"MLflow serves on {url}; the training knows of it alone:")
            train(python, folder, clean | {"MLFLOW_TRACKING_URI": url})
            records = watch(receiver, service)
        problems = differences(records)
        for record in records:
            say(f"  {record.path}  {record.body}")
        if service.stop() != 0:
            problems.append("hookline up did not end with 0 after SIGTERM")
    return problems


def main(arguments: Sequence[str]) -> int:
    """Run the demo; 0 when everything was exactly as expected."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if len(arguments) != 1:
        print("usage: python -m examples.mlflow_demo PYTHON", file=sys.stderr)
        return 2
    try:
        # Not resolved: an environment's interpreter is a link to one that has nothing.
        problems = demonstrate(Path(arguments[0]).absolute())
    except DemoFailed as exc:
        problems = [str(exc)]
    except KeyboardInterrupt:
        print("interrupted; everything was stopped and its data removed", file=sys.stderr)
        return 130
    for problem in problems:
        say(f"FAILED: {problem}")
    if not problems:
        say(f"OK: {len(EXPECTED)} automations fired, each once, with the right token and signatures; one was silent.")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
