"""A spool on a disk that is really full: a small tmpfs in a namespace of its own, which needs no root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Wait = Callable[..., None]
IN_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc"]
MOUNTED = 'mount -t tmpfs -o size=64k tmpfs "$0"; '
TRAINING = """
import os, pathlib, signal, sys
from hookline import Background, events

def publish(start, end):
    for step in range(start, end):
        event = events.run_metrics(project="p", run=events.Run("r"), step=step, metrics={"loss": 1}, id=f"e{step}")
        assert background.publish(event)

background = Background(on_error=lambda exc: print("!", exc, file=sys.stderr))
spool = pathlib.Path(os.environ["HOOKLINE_SPOOL"])
"""


def _reason() -> str:
    if shutil.which("unshare") is None:
        return "needs unshare, of util-linux"
    tried = subprocess.run([*IN_NAMESPACE, "mount -t tmpfs tmpfs /mnt"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"this machine gives no namespace with a mount of its own: {tried.stderr}"


if reason := _reason() if sys.platform == "linux" else "needs Linux":
    pytestmark = pytest.mark.skip(reason=reason)


def start(commands: str, *arguments: str) -> subprocess.Popen[str]:
    """A shell on a machine whose spool has 64 KiB of disk."""
    spool = Path(os.environ["HOOKLINE_SPOOL"])
    spool.mkdir(parents=True)
    command = [*IN_NAMESPACE, MOUNTED + commands, str(spool), sys.executable, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def ids(count: int, start: int = 0) -> list[str]:
    return [f"e{number}" for number in range(start, count)]


def test_a_training_goes_on_while_hookline_is_away_and_its_disk_is_full(configured: Any) -> None:
    configured.stop()
    program = (
        TRAINING
        + "publish(0, 1000)\nprint('published', flush=True)\nsys.stdin.readline()\nassert background.flush(60)\n"
    )
    process = start('exec "$1" -c "$2"', program)
    assert process.stdout is not None
    assert process.stdout.readline() == "published\n"
    configured.start()
    _, said = process.communicate("\n", timeout=120)
    assert process.returncode == 0, said
    assert said.count("No space left on device") == 1
    assert configured.ids() == ids(1000)


def test_what_a_full_disk_took_before_a_kill_arrives(configured: Any) -> None:
    configured.stop()
    program = TRAINING + "publish(0, 1000)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    script = '"$1" -c "$2" || true; cat "$0"/*/*.events | grep -c "^{.*}$"; read _; exec "$1" -m hookline spool send'
    process = start(script, program)
    assert process.stdout is not None
    kept = int(process.stdout.readline())
    assert 50 < kept < 1000
    configured.start()
    answer, said = process.communicate("\n", timeout=120)
    assert process.returncode == 0, said
    assert answer == f"{kept} events were sent\n"
    assert configured.ids() == ids(kept)


def test_a_disk_that_was_full_and_has_room_again_is_used_again(configured: Any) -> None:
    program = TRAINING + (
        "filling = spool / 'filling'\n"
        "try:\n"
        "    with filling.open('wb', buffering=0) as file:\n"
        "        while True: file.write(bytes(4096))\n"
        "except OSError as exc: print(exc.strerror, flush=True)\n"
        "publish(0, 10)\n"
        "assert not list(spool.glob('*/*.events'))\n"
        "print('published', flush=True)\n"
        "sys.stdin.readline()\n"
        "assert background.flush(60)\n"
        "filling.unlink()\n"
        "publish(10, 20)\n"
        "assert list(spool.glob('*/*.events'))\n"
        "assert background.flush(60)\n"
    )
    configured.stop()
    process = start('exec "$1" -c "$2"', program)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["No space left on device\n", "published\n"]
    configured.start()
    _, said = process.communicate("\n", timeout=120)
    assert process.returncode == 0, said
    assert configured.ids() == ids(20)
