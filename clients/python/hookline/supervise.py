"""`hookline run -- CMD…`: a run for any command, in any language, without a change to it.

The command's end becomes the run's state. Its exit status is this program's, its input and output are not touched, and
signals are passed on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hookline import configuration, ranks, runs, values
from hookline.errors import InvalidConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hookline.events import State

_PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT")
_OF_THE_TERMINAL = ("SIGINT", "SIGQUIT")
"""What a terminal sends to the command itself."""
_BY_SOMEBODY = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL})
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run`."""
    parser = commands.add_parser(
        "run",
        help="run a command as a run: how it ends becomes the run's state",
        usage="%(prog)s [options] -- COMMAND [ARGUMENT …]",
    )
    parser.add_argument("--project", help="default: the name of the current folder")
    parser.add_argument("--name", help="the run's name; default: the command's")
    parser.add_argument("--id", help="of an earlier run, to go on with it; default: a new one")
    parser.add_argument("--entity", help="instead of HOOKLINE_ENTITY")
    parser.add_argument("--author", default="", help="who runs it")
    parser.add_argument(
        "--heartbeat",
        type=duration_seconds,
        default=runs.HEARTBEAT_SECONDS,
        metavar="DURATION",
        help="after how long a silence Hookline says that the run crashed; 0 for never (default: 2m)",
    )
    parser.add_argument(
        "--config", action="append", default=[], metavar="KEY=VALUE", help="of the run's configuration; several times"
    )
    parser.add_argument(
        "--follow",
        action="append",
        default=[],
        metavar="PATH",
        help="publish the metrics of wandb and TensorBoard files there",
    )
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="behind `--`")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit status, 128 and the signal's number if one ended it, 126 or 127 if it can't be run."""
    words: list[str] = arguments.words
    if not words:
        raise InvalidConfiguration("a command is missing: hookline run [options] -- COMMAND")
    if shutil.which(words[0]) is None:
        is_there = Path(words[0]).exists()
        print(f"hookline: {words[0]}: {'is not executable' if is_there else 'command not found'}", file=sys.stderr)
        return 126 if is_there else 127
    if not configuration.is_configured() or not ranks.is_rank_zero():
        os.execvp(words[0], words)  # noqa: S606 - nothing to publish: this process becomes the command
    one = runs.run(
        arguments.project or Path.cwd().name,
        arguments.name or values.clean_name(" ".join([Path(words[0]).name, *words[1:]])),
        id=arguments.id,
        entity=arguments.entity,
        author=arguments.author,
        config=_config(arguments.config),
        heartbeat_seconds=arguments.heartbeat or None,
        handle_signals=False,
        command=words[0],
    )
    before = oom_kills()
    child = _start(words, one)
    if child is None:
        one.finish("failed")
        return 126
    following = _follow(arguments.follow, one)
    status = child.wait()
    if following is not None:
        following()
    state, members = ending(status, is_out_of_memory=oom_kills() > before)
    one.add_members(**members)
    one.finish(state)
    return 128 - status if status < 0 else status


def _start(words: list[str], one: runs.Run) -> subprocess.Popen[bytes] | None:
    told = {runs.JOINED["id"]: one.id, runs.JOINED["project"]: one.project, runs.JOINED["name"]: one.name}
    waiting: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: object) -> None:
        if children:
            children[0].send_signal(number)  # nothing if it has ended
        else:
            waiting.append(number)

    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    for name in _PASSED_ON:
        if hasattr(signal, name):
            # A terminal's Ctrl-C reaches the command without us; twice would cut its clean-up short.
            ignored = at_terminal and name in _OF_THE_TERMINAL
            signal.signal(getattr(signal, name), (lambda *_: None) if ignored else pass_on)
    try:
        children.append(subprocess.Popen(words, env={**os.environ, **told}))
    except OSError as exc:
        print(f"hookline: {words[0]}: {exc.strerror}", file=sys.stderr)
        return None
    for number in waiting:
        children[0].send_signal(number)
    return children[0]


def ending(status: int, *, is_out_of_memory: bool = False) -> tuple[State, dict[str, Any]]:
    """The state that a child's status means, and what the run says of it: `exit_code`, or `signal`, and `reason`.

    A shell ends with 128 and the number if a signal ended its command; that is taken for the signal.
    """
    number = -status if status < 0 else status - 128
    known = signal.valid_signals() if status < 0 else {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, *_FAULTS}
    if status in range(129) or number not in known:
        return ("failed" if status else "finished"), {"exit_code": status}
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    members = {"signal": name} if status < 0 else {"signal": name, "exit_code": status}
    if number == signal.SIGKILL and is_out_of_memory:
        return "crashed", {**members, "reason": "out of memory"}
    return ("killed" if number in _BY_SOMEBODY else "crashed"), members


_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


def oom_kills(root: Path = Path("/")) -> int:
    """How often the kernel killed for want of memory: in this process's cgroup, else on this machine; 0 if unknown."""
    files = [root / "proc" / "vmstat"]
    try:
        for line in (root / "proc" / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            group = path.lstrip("/")
            if controllers == "":
                files[:0] = [root / "sys/fs/cgroup" / group / "memory.events", root / "sys/fs/cgroup/memory.events"]
            elif "memory" in controllers.split(","):
                files[:0] = [root / "sys/fs/cgroup/memory" / group / "memory.oom_control"]
    except (OSError, ValueError):
        pass
    for file in files:
        try:
            found = re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0


def _follow(paths: list[str], one: runs.Run) -> Any:
    """Follow files in a thread as long as the command runs; returns what ends it after a last look."""
    if not paths:
        return None
    from hookline.follow.follower import Follower

    follower = Follower([Path(path) for path in paths], run=one, since="now")
    follower.look()
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(1.0):
            follower.look()

    thread = threading.Thread(target=watch, name="hookline-follow", daemon=True)
    thread.start()

    def end() -> None:
        stopping.set()
        thread.join()
        follower.look(thoroughly=True)
        follower.close()

    return end


def _config(pairs: Iterable[str]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for pair in pairs:
        key, found, text = pair.partition("=")
        if not found or not key:
            raise InvalidConfiguration(f"--config: must be KEY=VALUE, not {pair!r}")
        try:
            config[key] = json.loads(text)
        except ValueError:
            config[key] = text
    return config


def duration_seconds(text: str) -> float:
    """Seconds from text such as `30s`, `2m`, `1h` or `45`."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|)", text)
    if not found:
        raise argparse.ArgumentTypeError("must be a duration such as 30s, 2m or 1h")
    return float(found[1]) * _UNITS[found[2]]
