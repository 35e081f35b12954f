"""The supervisor with real, tiny children."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from dispatcher.up import supervisor
from dispatcher.up.supervisor import Child, ChildFailed, Supervisor, restart_delay_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEADLINE_SECONDS = 60.0

POLITE = """
import os, signal, sys, time
def end(*_):
    os.write(1, b"ended\\n")  # print is not reentrant: the signal may come in the middle of one
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
os.write(1, b"up %d\\n" % os.getpid())
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
LEAVING = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
print("up", grandchild.pid, flush=True)
"""
SUPERVISOR = """
import asyncio, sys
from dispatcher.up.supervisor import Child, Supervisor
argv = (sys.executable, "-I", "-S", "-c", "import time; print('up', flush=True); time.sleep(600)")
groups = [[Child(name="first", argv=argv)], [Child(name="second", argv=argv)]]
relay = lambda name, line: print(name, line, flush=True)
asyncio.run(Supervisor(groups, relay=relay).run(on_ready=lambda: None, on_stop=lambda: None))
"""


class Family:
    """Children under a supervisor, and what they have printed as `name: line`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.running: Supervisor | None = None

    def child(self, name: str, code: str, *, ready: bool = True, ready_seconds: float = 60.0) -> Child:
        async def has_printed() -> bool:
            return any(line.startswith(f"{name}: up") for line in self.lines)

        argv = (sys.executable, "-I", "-S", "-c", code)
        return Child(name=name, argv=argv, ready=has_printed if ready else None, ready_seconds=ready_seconds)

    def relay(self, name: str, line: str) -> None:
        self.lines.append(f"{name}: {line}")

    def run(
        self, *groups: list[Child], during: Callable[[], object] | None = None, grace_seconds: float = 30.0
    ) -> bool:
        """Run until `during` returns something true after all are ready, then ask to stop."""
        return asyncio.run(self._run(groups, during or (lambda: True), grace_seconds))

    async def _run(self, groups: tuple[list[Child], ...], during: Callable[[], object], grace_seconds: float) -> bool:
        ready, stopped = asyncio.Event(), asyncio.Event()
        self.running = Supervisor(groups, relay=self.relay, grace_seconds=grace_seconds)
        run = asyncio.create_task(self.running.run(on_ready=ready.set, on_stop=stopped.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait((run, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if run.done():
            return await run
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not during():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        self.running.request_stop()
        clean = await run
        assert stopped.is_set()
        return clean

    def pids(self, name: str) -> list[int]:
        prefix = f"{name}: up "
        return [int(line.removeprefix(prefix)) for line in self.lines if line.startswith(prefix)]


@pytest.fixture
def family() -> Family:
    return Family()


def test_groups_stop_in_reverse_order(family: Family) -> None:
    names = ["valkey", "worker", "dispatcher", "api"]
    assert family.run(*([family.child(name, POLITE)] for name in names))
    assert [line for line in family.lines if line.endswith("ended")] == [
        "api: ended",
        "dispatcher: ended",
        "worker: ended",
        "valkey: ended",
    ]


def test_a_child_that_is_killed_is_started_again(family: Family) -> None:
    killed: list[int] = []

    def two_lives() -> bool:
        if not killed:
            killed.extend(family.pids("one"))
            os.kill(killed[0], signal.SIGKILL)
        return len(family.pids("one")) == 2

    assert family.run([family.child("one", POLITE)], during=two_lives)
    assert family.pids("one")[1] not in killed
    assert family.lines[-1] == "one: ended"


def test_what_a_dead_child_left_behind_dies_too(family: Family) -> None:
    def all_gone() -> bool:
        return len(family.pids("one")) > 1 and not any(map(_runs, family.pids("one")[:-1]))

    assert family.run([family.child("one", LEAVING)], during=all_gone)


def test_a_child_that_does_not_end_is_killed_after_the_grace(family: Family) -> None:
    assert not family.run([family.child("one", STUBBORN)], grace_seconds=0.1)


def test_a_second_signal_kills_at_once(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "ONE_SIGNAL_SECONDS", -1.0)

    def interrupt_twice() -> bool:
        assert family.running is not None
        family.running.request_stop()
        return True  # and the fixture asks for the second time

    assert not family.run([family.child("one", STUBBORN)], during=interrupt_twice)


def test_one_signal_that_arrives_twice_counts_once(family: Family) -> None:
    def interrupt() -> bool:
        assert family.running is not None
        family.running.request_stop()
        return True

    assert family.run([family.child("one", POLITE)], during=interrupt)
    assert family.lines[-1] == "one: ended"


def test_signals_ask_to_stop(family: Family) -> None:
    def interrupt() -> bool:
        signal.raise_signal(signal.SIGTERM)
        return True

    assert family.run([family.child("one", POLITE)], during=interrupt)


def test_a_signal_that_was_ignored_stays_ignored(family: Family) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    interrupted: list[bool] = []

    def interrupt() -> bool:
        signal.raise_signal(signal.SIGHUP)
        interrupted.append("one: ended" in family.lines)
        return len(interrupted) > 3

    try:
        assert family.run([family.child("one", POLITE)], during=interrupt)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not any(interrupted)


def test_a_child_that_never_gets_ready_is_given_up(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_RESTART_SECONDS", 0.0)
    with pytest.raises(ChildFailed, match="broken ended 5 times before it was ready, at last with status 7"):
        family.run([family.child("sound", POLITE)], [family.child("broken", "raise SystemExit(7)")])
    assert family.lines[-1] == "sound: ended"


def test_readiness_has_a_deadline(family: Family) -> None:
    silent = family.child("silent", "import time; time.sleep(600)", ready_seconds=0.1)
    with pytest.raises(ChildFailed, match=r"silent was not ready within 0\.1 s"):
        family.run([silent])


def test_a_program_that_does_not_exist_is_given_up(
    family: Family, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_RESTART_SECONDS", 0.0)
    child = Child(name="missing", argv=(sys.executable,), cwd=tmp_path / "missing", ready=_never)
    with pytest.raises(ChildFailed, match="missing ended 5 times before it was ready, at last with no start"):
        family.run([child])


async def _never() -> bool:
    return False


def test_lines_of_any_kind_are_relayed(family: Family) -> None:
    code = f"import sys; sys.stdout.buffer.write(b'a' * 200000 + b'\\n\\xff\\nlast'); sys.stdout.flush(){POLITE}"
    assert family.run([family.child("one", code, ready=False)], during=lambda: len(family.lines) > 2)
    assert family.lines[0] == f"one: {'a' * 200000}"
    assert family.lines[1] == "one: \N{REPLACEMENT CHARACTER}"
    assert family.lines[2].startswith("one: lastup")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_children_do_not_outlive_a_killed_supervisor() -> None:
    running = subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    with running:
        assert {running.stdout.readline(), running.stdout.readline()} == {"first up\n", "second up\n"}
        children = psutil.Process(running.pid).children(recursive=True)
        assert len(children) == 2
        running.kill()
    _gone, alive = psutil.wait_procs(children, timeout=DEADLINE_SECONDS)
    assert alive == []


@pytest.mark.parametrize(
    ("deaths", "seconds"), [(1, 0.2), (2, 0.4), (3, 0.8), (6, 6.4), (7, 10.0), (1000, 10.0), (10**9, 10.0)]
)
def test_restart_delays(deaths: int, seconds: float) -> None:
    assert restart_delay_seconds(deaths) == pytest.approx(seconds)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
