"""Passwords and keys in deploy/: only where they are needed, and in nobody's list of processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.exceptions import AuthenticationError, RedisError

from dispatcher.up.valkey import find_server
from tests.deploy.files import DEPLOY, rendered
from tests.integration.processes import stop, wait_until
from tests.servers import free_port

KEYS = "HOOKLINE_SECRET_KEYS"
SENDING = {"deliver", "deliver_slow"}
PASSWORD = "0123456789abcdef"


def services() -> dict[str, dict[str, Any]]:
    """The services of the compose file."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    return found


def needs_keys(part: str, queues: str = "") -> bool:
    """Whether a part encrypts or decrypts secrets: the API stores them, and workers that send insert them."""
    return part == "api" or (part == "worker" and bool(SENDING & set(queues.split(","))))


def test_parts_of_the_compose_file_get_the_keys_only_where_they_need_them() -> None:
    parts = {name: one for name, one in services().items() if "build" in one}
    assert len(parts) == 6
    for name, one in parts.items():
        assert (KEYS in one["environment"]) is needs_keys(*one["command"]), name


@pytest.mark.parametrize("pool", [(), ("workers.evaluate.queues={evaluate,deliver}",)], ids=["as it comes", "mixed"])
def test_parts_of_the_chart_get_the_keys_only_where_they_need_them(pool: tuple[str, ...]) -> None:
    pods = [one["spec"]["template"]["spec"] for one in rendered(*pool) if one["kind"] in {"Deployment", "Job"}]
    assert len(pods) == 6
    for container in (pod["containers"][0] for pod in pods):
        given = KEYS in {variable["name"] for variable in container["env"]}
        assert given is needs_keys(*container["args"]), container["args"]


def test_no_argument_holds_a_password() -> None:
    """Every user of a host can read the arguments of its processes. Compose writes `$$` for the container's own `$`."""
    for name, one in services().items():
        words = json.dumps([one.get("command", []), one.get("entrypoint", []), one.get("healthcheck", {})])
        assert not re.search(r"(?<!\$)\$\{?\w*(PASSWORD|KEY|AUTH)", words), name


def test_valkey_gets_its_password_and_its_options(tmp_path: Path) -> None:
    """The command of the compose file, on a Valkey of ours and without the image's script around it."""
    port, log = free_port(), tmp_path / "log"
    (tmp_path / "docker-entrypoint.sh").write_text('#!/bin/sh\nexec "$@"\n')
    (tmp_path / "docker-entrypoint.sh").chmod(0o755)
    (tmp_path / "valkey-server").symlink_to(find_server())
    shell, option, script = services()["valkey"]["command"]
    script = script.replace("$$", "$").replace("valkey-server -", f"valkey-server - --bind 127.0.0.1 --port {port}")
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "REDISCLI_AUTH": PASSWORD}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [shell, option, script], cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    client = redis.Redis(port=port, password=PASSWORD, decode_responses=True)

    def answers() -> bool:
        assert server.poll() is None, log.read_text()
        with suppress(RedisError):
            return bool(client.ping())
        return False

    try:
        wait_until(answers, "answer of Valkey")
        kept = {name: client.config_get(name)[name] for name in ("appendonly", "appendfsync", "maxmemory-policy")}
        assert kept == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
        assert PASSWORD.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
        with pytest.raises(AuthenticationError):
            redis.Redis(port=port, password="another").ping()
    finally:
        client.close()
        stop(server)
