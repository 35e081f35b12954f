"""The command `hookline-agent`. Where Hookline's server is installed too, its `hookline` takes the same words.

Standard output carries results only. Ends with 0, with 1 when something was refused or failed, or with 2 when it could
not be tried; `run` ends as its command does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from hookline import outbox_commands, spool_commands, supervise
from hookline.errors import HooklineError
from hookline.follow import commands as follow_commands
from hookline.version import __version__

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None, *, program: str = "hookline-agent") -> int:
    """Run the command with these arguments, and return its exit status."""
    ours, words = _cut(list(sys.argv[1:] if arguments is None else arguments))
    parsed = _parser(program).parse_args(ours)
    if words is not None:
        parsed.words = words
    command: Command = parsed.command
    try:
        return command(parsed)
    except (HooklineError, OSError) as exc:
        print(f"{program}: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _cut(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """The arguments of `run`, and the command behind `--`, whose options are none of ours."""
    if arguments[:1] != ["run"] or "--" not in arguments:
        return arguments, None
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description="Publish to the Hookline at HOOKLINE_URL what happens to models and runs."
    )
    parser.add_argument("--version", action="version", version=f"hookline-client {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    supervise.add_commands(commands)
    follow_commands.add_commands(commands)
    outbox_commands.add_commands(commands)
    spool_commands.add_commands(commands)
    return parser
