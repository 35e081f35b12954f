"""Runs many of Celery's commands for the price of one: started once, forked for each. JSON in, JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, NoReturn

from tests.integration.processes import ROOT


def outcomes(commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> list[tuple[int, str]]:
    """The exit code and the output of each command, `celery` and its arguments; they run at the same time."""
    program = [sys.executable, "-m", "tests.monitoring.commands"]
    done = subprocess.run(
        program, input=json.dumps(commands), cwd=ROOT, env=dict(environment), capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return [(int(code), str(said)) for code, said in json.loads(done.stdout)]


def _main() -> None:
    import worker.celery  # noqa: F401 - what takes the time

    running = [_begin(arguments) for arguments in json.load(sys.stdin)]
    ended = []
    for pid, output in running:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        ended.append((code, output.read()))
    json.dump(ended, sys.stdout)


def _begin(arguments: Sequence[str]) -> tuple[int, IO[str]]:
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115  - read when the command has ended
    child = os.fork()
    if not child:
        _run(arguments, output)
    return child, output


def _run(arguments: Sequence[str], output: IO[str]) -> NoReturn:
    from celery.bin.celery import main

    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    sys.argv = list(arguments)
    code: object = 1
    try:
        code = main()
    except SystemExit as exc:
        code = exc.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _main()
