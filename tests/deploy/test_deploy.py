"""deploy/ against the code: settings and commands exist, files that are named are there, grace fits the drain."""

from __future__ import annotations

import configparser
import re
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from dispatcher.cli import main
from shared.messaging.celery_app import DELIVER_QUEUE, EVALUATE_QUEUE, SLOW_QUEUE
from shared.settings import ENV_PREFIX, Settings
from tests.deploy.files import CHART, DEPLOY, ROOT, seconds, text_files

KNOWN = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
COMPOSE_OWN = {"HOOKLINE_IMAGE", "HOOKLINE_PUBLISH"}  # of the compose file, not of Hookline
PLACEHOLDERS = {"HOOKLINE_NAME"}
QUEUES = {EVALUATE_QUEUE, DELIVER_QUEUE, SLOW_QUEUE}
CLOSING_SECONDS = 15  # a drain's slice, the last writes, threads and connections
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def yaml_of(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_every_setting_in_deploy_is_a_setting() -> None:
    unknown = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in text_files()
        for name in re.findall(r"HOOKLINE_[A-Z0-9_]*[A-Z0-9]", path.read_text())
        if name not in KNOWN | COMPOSE_OWN | PLACEHOLDERS
    }
    assert not unknown


def test_every_part_in_deploy_is_a_command() -> None:
    entrypoint = (DEPLOY / "image" / "entrypoint").read_text()
    parts = set(re.findall(r"^([a-z]+)\)$", entrypoint, re.MULTILINE))
    assert parts == {"api", "dispatcher", "migrate", "worker"}
    commands = {*re.findall(r"exec hookline (\w+)", entrypoint)}
    for unit in UNITS:
        program, *arguments = shlex.split(_unit(unit)["Service"]["ExecStart"])
        if Path(program).name == "hookline":
            commands.add(arguments[0])
        else:
            assert [Path(program).name, *arguments[:3]] == ["celery", "-A", "worker", "worker"]
    assert commands == {"api", "dispatcher", "init"}
    assert commands <= main.commands.keys()
    services = yaml_of(DEPLOY / "compose" / "compose.yaml")["services"]
    used = {service["command"][0] for service in services.values() if "build" in service}
    assert used == parts


def test_every_queue_has_its_workers() -> None:
    compose = yaml_of(DEPLOY / "compose" / "compose.yaml")["services"]
    taken = {
        queue for name, one in compose.items() if name.startswith("worker") for queue in one["command"][1].split(",")
    }
    assert taken == QUEUES
    pools = yaml_of(CHART / "values.yaml")["workers"]
    assert {queue for pool in pools.values() for queue in pool["queues"]} == QUEUES
    assert set(re.findall(r"queues=(\S+)", (DEPLOY / "image" / "entrypoint").read_text())[0].split(",")) == QUEUES
    worker = (DEPLOY / "systemd" / "hookline-worker@.service").read_text()
    assert set(re.findall(r"QUEUES=(\S+)", worker)[0].split(",")) == QUEUES


def test_workers_that_send_may_go_out() -> None:
    for pool in yaml_of(CHART / "values.yaml")["workers"].values():
        assert pool["sendsWebhooks"] is bool({DELIVER_QUEUE, SLOW_QUEUE} & set(pool["queues"]))


def test_a_worker_is_given_the_time_that_its_end_takes() -> None:
    """What is in flight is waited for as long as the setting says; a kill before that would send it all again."""
    settings = Settings()
    needed = settings.shutdown_grace.total_seconds() + settings.drain_slice.total_seconds() + CLOSING_SECONDS
    compose = yaml_of(DEPLOY / "compose" / "compose.yaml")["services"]
    given = [seconds(one["stop_grace_period"]) for name, one in compose.items() if name.startswith("worker")]
    given += [one["terminationGracePeriodSeconds"] for one in yaml_of(CHART / "values.yaml")["workers"].values()]
    given.append(seconds(_unit(DEPLOY / "systemd" / "hookline-worker@.service")["Service"]["TimeoutStopSec"]))
    assert len(given) == 7
    assert min(given) >= needed


def test_containers_can_write_nothing_and_do_nothing_special() -> None:
    services = yaml_of(DEPLOY / "compose" / "compose.yaml")["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert "no-new-privileges:true" in service["security_opt"], name
        if "build" in service:
            assert service["cap_drop"] == ["ALL"], name
            assert "privileged" not in service, name


def test_ports_of_the_whole_service_are_on_this_host_alone() -> None:
    services = yaml_of(DEPLOY / "compose" / "compose.yaml")["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert all("127.0.0.1:" in port for port in published)
    assert not {"postgres", "valkey"} & {name for name, one in services.items() if "ports" in one}


def test_files_that_the_compose_file_mounts_are_there() -> None:
    folder = DEPLOY / "compose"
    services = yaml_of(folder / "compose.yaml")["services"]
    sources = [volume.split(":")[0] for one in services.values() for volume in one.get("volumes", [])]
    mounted = [source for source in sources if source.startswith(".")]
    assert mounted
    assert [source for source in mounted if not (folder / source).resolve().exists()] == []


def test_variables_of_the_compose_file_are_in_its_example() -> None:
    folder = DEPLOY / "compose"
    used = set(re.findall(r"\$\{([A-Z_]+)", (folder / "compose.yaml").read_text()))
    offered = set(re.findall(r"^([A-Z_]+)=", (folder / "env.example").read_text(), re.MULTILINE))
    assert used == offered


def test_the_image_runs_as_nobody_in_particular() -> None:
    dockerfile = (DEPLOY / "image" / "Dockerfile").read_text()
    last = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last and "STOPSIGNAL SIGTERM" in last
    assert re.search(r'^ENTRYPOINT \["tini", "--", "entrypoint"\]$', last, re.MULTILINE)


def test_the_image_gets_all_it_copies_and_no_more() -> None:
    dockerfile = (DEPLOY / "image" / "Dockerfile").read_text()
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
        for word in line.split()[:-1]
        if not word.startswith("--")
    ]
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    assert "*" in ignore
    for path in copied:
        assert (ROOT / path).exists(), path
        assert any(path == one or path.startswith(f"{one}/") for one in allowed), path


@pytest.mark.parametrize("name", ["entrypoint", "healthcheck"])
def test_scripts_of_the_image_can_be_run(name: str) -> None:
    path = DEPLOY / "image" / name
    assert path.stat().st_mode & stat.S_IXUSR
    assert path.read_text().startswith("#!/bin/sh\n")


def test_the_api_listens_where_the_socket_unit_says() -> None:
    """Passed on as the first descriptor (systemd.socket, sd_listen_fds), so that a restart refuses nobody."""
    api = _unit(DEPLOY / "systemd" / "hookline-api.service")
    assert shlex.split(api["Service"]["ExecStart"])[1:] == ["api", "--fd", "3"]
    assert api["Unit"]["Requires"] == "hookline-api.socket"
    settings = Settings()
    port = _unit(DEPLOY / "systemd" / "hookline-api.socket")
    assert port["Socket"]["ListenStream"] == f"{settings.host}:{settings.port}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_confined(unit: Path) -> None:
    service = _unit(unit)["Service"]
    assert service["User"] == "hookline"
    assert (service["ProtectSystem"], service["NoNewPrivileges"], service["PrivateTmp"]) == ("strict", "yes", "yes")
    assert service["EnvironmentFile"].endswith("/etc/hookline/hookline.env") or "EnvironmentFile" in service


def _unit(path: Path) -> configparser.RawConfigParser:
    """A unit's sections; of a directive that comes several times, the last."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser
