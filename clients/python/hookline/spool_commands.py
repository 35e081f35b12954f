"""`hookline-agent spool`: what processes left behind that were killed, or ended while Hookline was away."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hookline import batches, configuration
from hookline.client import Client, refused
from hookline.errors import InvalidConfiguration, Refused
from hookline.spool import SpoolFile, left_behind

if TYPE_CHECKING:
    import argparse


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `spool` and what is below it."""
    spool = commands.add_parser("spool", help="events that processes left behind: list them, or send them")
    what = spool.add_subparsers(required=True, metavar="COMMAND")
    listing = what.add_parser("list", help="each file with its unsent bytes")
    listing.set_defaults(command=list_files)
    sending = what.add_parser("send", help="send what no running process owns")
    sending.set_defaults(command=send)
    sending.add_argument(
        "--any-key",
        action="store_true",
        help="also what was meant for this Hookline with another key, a former one say",
    )
    for parser in (listing, sending):
        parser.add_argument("--folder", help="instead of HOOKLINE_SPOOL")


def list_files(arguments: argparse.Namespace) -> int:
    """Print each file that has no running owner, with its unsent bytes."""
    for folder in _folders(arguments.folder):
        for file in left_behind(folder):
            print(f"{file.path}: {file.unsent_bytes} bytes are not sent")
            file.forget()
    return 0


def send(arguments: argparse.Namespace) -> int:
    """Send them to HOOKLINE_URL; 1 if anything was refused."""
    sent, was_refused = 0, False
    with Client() as client:
        own = client.spool_name
        wanted = own.partition("-")[0] if arguments.any_key else own
        for folder in _folders(arguments.folder):
            if folder.name == own or (arguments.any_key and folder.name.partition("-")[0] == wanted):
                for file in left_behind(folder):
                    try:
                        accepted, is_refused = _send_file(client, file)
                    finally:
                        file.close()
                    sent += accepted
                    was_refused |= is_refused
    print(f"{sent} events were sent")
    return int(was_refused)


def _send_file(client: Client, file: SpoolFile) -> tuple[int, bool]:
    sent, is_refused = 0, False
    while file.unsent_bytes:
        events, offset = file.unsent(max_events=batches.MAX_BATCH_EVENTS, max_bytes=batches.MAX_BATCH_BYTES - 2)
        if events:
            try:
                outcome = client.publish_batch(events, patience_seconds=60.0)
            except Refused as exc:
                raise Refused(f"{exc}; {file.path} is kept", status=exc.status) from exc
            sent += outcome.accepted
            if outcome.refusals:
                is_refused = True
                print(f"{file.path}: {refused(outcome.refusals, sent)}", file=sys.stderr)
        file.note_sent(offset)
    return sent, is_refused


def _folders(given: str | None) -> Iterator[Path]:
    base = Path(given) if given else configuration.default_spool()
    if base is None:
        raise InvalidConfiguration("HOOKLINE_SPOOL: is off; name a folder with --folder")
    if base.is_dir():
        yield from sorted(one for one in base.iterdir() if one.is_dir())
