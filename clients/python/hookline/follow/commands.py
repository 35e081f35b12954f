"""`hookline follow PATH…`: publish what training programs write into files."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from hookline.errors import InvalidConfiguration
from hookline.follow.follower import HEARTBEAT_SECONDS, Follower
from hookline.follow.places import default_positions
from hookline.supervise import duration_seconds

if TYPE_CHECKING:
    import argparse


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `follow`."""
    parser = commands.add_parser("follow", help="publish the runs in wandb and TensorBoard files, as they are written")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder with files below it")
    parser.add_argument("--project", help="default: the one in the file; for TensorBoard the name of PATH")
    parser.add_argument("--entity", help="instead of HOOKLINE_ENTITY")
    parser.add_argument("--author", default="", help="who runs them")
    parser.add_argument(
        "--since",
        choices=("now", "start"),
        help="whether to leave out what files already have when they are followed for the first time (default: now)",
    )
    parser.add_argument("--once", action="store_true", help="end after one look; --since start, unless it is given")
    parser.add_argument(
        "--every", type=duration_seconds, default=1.0, metavar="DURATION", help="how often to look (default: 1s)"
    )
    parser.add_argument(
        "--heartbeat",
        type=duration_seconds,
        default=HEARTBEAT_SECONDS,
        metavar="DURATION",
        help="for how long a wandb file may not grow until its run has crashed; 0 for ever (default: 5m)",
    )
    parser.add_argument("--positions", type=Path, help="the file that remembers how far it came")
    parser.set_defaults(command=follow)


def follow(arguments: argparse.Namespace) -> int:
    """Follow until SIGTERM or Ctrl-C; with `--once` look once."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    paths: list[Path] = arguments.paths
    if missing := [path for path in paths if not path.exists()]:
        raise InvalidConfiguration(f"{missing[0]}: there is no such file or folder")
    follower = Follower(
        paths,
        project=arguments.project,
        entity=arguments.entity,
        author=arguments.author,
        since=arguments.since or ("start" if arguments.once else "now"),
        heartbeat_seconds=arguments.heartbeat or None,
        positions=arguments.positions or default_positions(paths),
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        count = follower.look()
        if arguments.once:
            print(f"{count} events")
            return 0
        print("following", flush=True)
        while not stopping.wait(arguments.every):
            follower.look()
    finally:
        follower.close()
    return 0
