"""Runs many commands of `celery` and `hookline` for the price of one: started once, forked for each. Speaks JSON."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, NoReturn

from tests.integration.processes import ROOT

PROGRAMS = {"celery": "celery.bin.celery", "hookline": "dispatcher.cli"}


@dataclass(frozen=True, slots=True)
class Command:
    """A command line that begins with `celery` or `hookline`, and what its environment has besides."""

    line: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def outcomes(
    commands: Sequence[Command], environment: Mapping[str, str], *, imports: Sequence[str]
) -> list[tuple[int, str]]:
    """The exit code and the output of each command; they run at the same time.

    `imports` names the modules that take the time. They are imported with the environment that is common to all, so
    none of them may read from it what a command's own changes.
    """
    program = [sys.executable, "-m", "tests.integration.forked"]
    given = json.dumps([list(imports), [[list(one.line), dict(one.environment)] for one in commands]])
    done = subprocess.run(
        program, input=given, cwd=ROOT, env=dict(environment), capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return [(int(code), str(said)) for code, said in json.loads(done.stdout)]


def _main() -> None:
    imports, commands = json.load(sys.stdin)
    for name in imports:
        importlib.import_module(name)
    running = [_begin(line, environment) for line, environment in commands]
    ended = []
    for pid, output in running:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        ended.append((code, output.read()))
    json.dump(ended, sys.stdout)


def _begin(line: Sequence[str], environment: Mapping[str, str]) -> tuple[int, IO[str]]:
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115  - read when the command has ended
    child = os.fork()
    if not child:
        os.environ.update(environment)
        _run(line, output)
    return child, output


def _run(line: Sequence[str], output: IO[str]) -> NoReturn:
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    sys.argv = list(line)
    code: object = 1
    try:
        code = importlib.import_module(PROGRAMS[line[0]]).main()
    except SystemExit as exc:
        code = exc.code
        if isinstance(code, str):
            print(code, file=sys.stderr)  # as Python does at its end
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _main()
