"""What the `cloudevents` packages send by default is taken, in both modes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest
from redis import Redis

from shared.domain.events.partitioning import START
from shared.messaging.streams import read_after
from tests.cloud_events import environments
from tests.package_environments import Environments
from tests.sdk.conftest import Hookline

HERE = Path(__file__).parent
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MADE = "make test-cloud-events makes the packages' environments"


def published(hookline: Hookline) -> list[dict[str, object]]:
    """The events in the streams."""
    with Redis.from_url(hookline.settings.redis_url or "") as redis:
        found = [read_after(redis, partition, START, 100) for partition in range(hookline.settings.partitions)]
    return [orjson.loads(entry.body or b"") for entries in found for entry in entries]


def statuses(hookline: Hookline, *command: object, cwd: Path) -> list[str]:
    """The statuses that a program got."""
    environment = {"HOOKLINE_URL": hookline.url, "HOOKLINE_API_KEY": hookline.keys["admin"]}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split()[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("made", [environments.OLD, environments.NEW], ids=["1.13", "2.2"])
def test_the_package_of_python(hookline: Hookline, made: Environments, tmp_path: Path) -> None:
    if not made.has_python():
        pytest.skip(MADE)
    source = "/plätze/1" if made is environments.NEW else "/platform/1"  # the first version encodes no headers
    assert statuses(hookline, made.python, HERE / "publish.py", TRACE, source, cwd=tmp_path) == ["202", "202"]
    binary, structured = sorted(published(hookline), key=lambda one: str(one["id"]))
    assert binary["data"] == structured["data"]
    assert {one["traceparent"] for one in (binary, structured)} == {TRACE}
    assert {one["source"] for one in (binary, structured)} == {source}


@pytest.mark.skipif(not environments.NEW.has_node(), reason=MADE)
def test_the_package_of_npm(hookline: Hookline, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(environments.NEW.node / "node_modules")
    shutil.copy(HERE / "publish.mjs", tmp_path)
    said = statuses(hookline, shutil.which("node"), "publish.mjs", TRACE, cwd=tmp_path)
    assert said == ["202", "202"]
    binary, structured = sorted(published(hookline), key=lambda one: str(one["id"]))
    assert binary["data"] == structured["data"]
    assert {one["traceparent"] for one in (binary, structured)} == {TRACE}
