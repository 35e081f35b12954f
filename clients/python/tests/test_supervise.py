"""`hookline run -- CMD`: the command's end is the run's, and the command notices nothing."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from files import scalar

from hookline.supervise import duration_seconds, ending, oom_kills

RUN = [sys.executable, "-m", "hookline", "run", "--project", "digits"]
Wait = Callable[..., None]


def run(*words: str, options: tuple[str, ...] = (), **given: Any) -> subprocess.CompletedProcess[str]:
    command = [*RUN, *options, "--", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, **given)


def states(api: Any) -> list[str]:
    return [event["data"]["state"] for event in api.events if event["type"] == "RUN_STATE"]


@pytest.mark.parametrize(
    ("script", "status", "state", "members"),
    [
        ("exit 0", 0, "finished", {"exit_code": 0}),
        ("exit 3", 3, "failed", {"exit_code": 3}),
        ("kill -TERM $$", 143, "killed", {"signal": "SIGTERM"}),
        ("kill -KILL $$", 137, "killed", {"signal": "SIGKILL"}),
        ("kill -SEGV $$", 139, "crashed", {"signal": "SIGSEGV"}),
        ("sh -c 'kill -SEGV $$'; exit $?", 139, "crashed", {"signal": "SIGSEGV", "exit_code": 139}),
    ],
)
def test_how_a_command_ends(configured: Any, script: str, status: int, state: str, members: dict[str, Any]) -> None:
    done = run("sh", "-c", script, options=("--name", "first", "--config", "lr=0.1", "--config", "opt=sgd"))
    assert done.returncode == status, done.stderr
    assert states(configured) == ["running", state]
    last = configured.events[-1]["data"]["run"]
    assert {key: last[key] for key in members} == members
    assert last["name"] == "first" and last["config"] == {"lr": 0.1, "opt": "sgd"}
    assert configured.events[0]["data"]["heartbeat_seconds"] == 120


def test_memory_that_runs_out_fails_the_run(configured: Any) -> None:
    done = run("sh", "-c", f"ulimit -v 200000; exec {sys.executable} -c 'x = bytearray(10**9)'")
    assert done.returncode == 1 and "MemoryError" in done.stderr
    assert states(configured) == ["running", "failed"]


def test_input_output_and_environment_are_the_command_s(configured: Any) -> None:
    done = run("sh", "-c", "cat; echo $MINE; echo oops >&2", input="in\n", env={**os.environ, "MINE": "mine"})
    assert (done.stdout, done.stderr, done.returncode) == ("in\nmine\n", "oops\n", 0)


def test_options_of_the_command_are_its_own(configured: Any) -> None:
    done = run("sh", "-c", 'echo "$@"', "x", "--project", "y", "--", "--help")
    assert done.stdout == "--project y -- --help\n"
    assert {event["data"]["project"] for event in configured.events} == {"digits"}
    assert subprocess.run([*RUN, "--"], capture_output=True, check=False).returncode == 2


def test_a_command_that_is_not_there(configured: Any, tmp_path: Path) -> None:
    assert run("no-such-command").returncode == 127
    (tmp_path / "plain").write_text("")
    assert run(str(tmp_path / "plain")).returncode == 126
    assert configured.events == []


def test_without_hookline_it_is_the_command_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("sh", "-c", "echo $PPID; exit 5")
    assert done.returncode == 5
    assert done.stdout == f"{os.getpid()}\n", "nothing stays between"


def test_other_ranks_are_the_command_alone(configured: Any) -> None:
    assert run("true", env={**os.environ, "RANK": "1"}).returncode == 0
    assert configured.events == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_signals_are_passed_on(configured: Any, name: str) -> None:
    program = (
        "import signal, sys, time\n"
        f"def end(*_):\n    print('cleaned up', flush=True)\n    sys.exit(7)\nsignal.signal(signal.{name}, end)\n"
        "print('ready', flush=True)\ntime.sleep(600)\n"
    )
    command = [*RUN, "--", sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        assert process.stdout.readline() == "cleaned up\n"
        assert process.wait(60) == 7
    assert states(configured) == ["running", "failed"]


def test_a_run_in_the_command_is_the_command_s_run(configured: Any) -> None:
    program = (
        "import hookline\n"
        "with hookline.run(project='digits', config={'lr': 1}) as run: run.log({'loss': 1})\n"
        "with hookline.run(project='digits') as other: other.log({'loss': 2})\n"
        "with hookline.run(project='elsewhere'): pass\n"
    )
    assert run(sys.executable, "-c", program, options=("--name", "outer")).returncode == 0
    told = [
        (event["data"]["project"], event["data"]["run"]["id"], event["data"].get("state", event["data"].get("metrics")))
        for event in configured.events
    ]
    own = told[-1][1]
    assert {project for project, id_, _ in told if id_ == own} == {"digits"}
    of_own = [state for _, id_, state in told if id_ == own]
    assert of_own.count("running") == 2 and of_own.count({"loss": 1}) == 1 and of_own.count("finished") == 1
    assert told[-1][1:] == (own, "finished")
    assert len({id_ for _, id_, _ in told}) == 3


def test_files_that_the_command_writes_are_the_run_s_metrics(configured: Any, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "record").write_bytes(scalar(3, "loss", 0.5))
    script = f"cat {tmp_path}/record > {tmp_path}/logs/events.out.tfevents.1"
    assert run("sh", "-c", script, options=("--follow", str(tmp_path / "logs"))).returncode == 0
    ids = {event["data"]["run"]["id"] for event in configured.events}
    assert len(ids) == 1
    assert [event["data"].get("metrics") for event in configured.events] == [None, {"loss": 0.5}, None]


def test_kill_9_of_the_wrapper_leaves_the_command_alone(configured: Any, tmp_path: Path, wait_until: Wait) -> None:
    mark = tmp_path / "mark"
    script = f"echo ready; sleep 1; echo done > {mark}"
    with subprocess.Popen([*RUN, "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.kill()
    wait_until(mark.exists, "end of the command")


def test_out_of_memory_is_read_from_the_kernel_s_counters(tmp_path: Path) -> None:
    assert oom_kills(tmp_path) == 0
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "vmstat").write_text("nr_free 5\noom_kill 2\n")
    assert oom_kills(tmp_path) == 2
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/jobs/7\n")
    group = tmp_path / "sys/fs/cgroup/jobs/7"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("oom 1\noom_kill 4\n")
    assert oom_kills(tmp_path) == 4
    assert ending(-signal.SIGKILL, is_out_of_memory=True) == (
        "crashed",
        {"signal": "SIGKILL", "reason": "out of memory"},
    )
    assert ending(-signal.SIGTERM, is_out_of_memory=True)[0] == "killed"
    assert ending(137, is_out_of_memory=True)[0] == "crashed"
    assert ending(200) == ("failed", {"exit_code": 200})


def test_durations() -> None:
    assert [duration_seconds(text) for text in ("30s", "2m", "1h", "45", "50ms", "1.5s")] == [
        30,
        120,
        3600,
        45,
        0.05,
        1.5,
    ]
    for wrong in ("", "x", "-1s", "1d", "1 s"):
        with pytest.raises(argparse.ArgumentTypeError):
            duration_seconds(wrong)
