"""The command `hookline-agent`. Where Hookline's server is installed too, its `hookline` takes the same words.

Standard output carries results only. Ends with 0, with 1 when something was refused or failed, or with 2 when it could
not be tried; `run` ends as its command does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from hookline.errors import HooklineError
from hookline.version import __version__

Command = Callable[[argparse.Namespace], int]
COMMANDS = ("spool",)
"""What `hookline` takes over from this command."""


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
    _add_spool(commands)
    return parser


def _add_spool(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from hookline import spool_commands

    spool = commands.add_parser("spool", help="events that processes left behind: list them, or send them")
    what = spool.add_subparsers(required=True, metavar="COMMAND")
    listing = what.add_parser("list", help="each file with its unsent bytes")
    listing.add_argument("--folder", help="instead of HOOKLINE_SPOOL")
    listing.set_defaults(command=spool_commands.list_files)
    sending = what.add_parser("send", help="send what no running process owns")
    sending.add_argument("--folder", help="instead of HOOKLINE_SPOOL")
    sending.add_argument(
        "--any-key",
        action="store_true",
        help="also what was meant for this Hookline with another key, such as a former one",
    )
    sending.set_defaults(command=spool_commands.send)
