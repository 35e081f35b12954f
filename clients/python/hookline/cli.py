"""The command `hookline-agent`. Where Hookline's server is installed too, its `hookline` takes the same words.

Standard output carries results only. Ends with 0, with 1 when something was refused or failed, or with 2 when it could
not be tried; `run` ends as its command does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from hookline import outbox_commands, spool_commands
from hookline.errors import HooklineError
from hookline.version import __version__

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None, *, program: str = "hookline-agent") -> int:
    """Run the command with these arguments, and return its exit status."""
    parsed = _parser(program).parse_args(arguments)
    command: Command = parsed.command
    try:
        return command(parsed)
    except (HooklineError, OSError) as exc:
        print(f"{program}: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description="Publish to the Hookline at HOOKLINE_URL what happens to models and runs."
    )
    parser.add_argument("--version", action="version", version=f"hookline-client {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    outbox_commands.add_commands(commands)
    spool_commands.add_commands(commands)
    return parser
