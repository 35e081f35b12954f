"""`make day`: each hurt before a real Prometheus with the repository's rules; exits 1 when an alert was wrong.

An alert is wrong when it does not fire, ends while its harm lasts, does not end after it, or fires for no harm.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tests.day.hurts import BURNS, HURTS, Hurt
from tests.day.installation import Installation, installation
from tests.day.rules import scaled, scrape_seconds, write_rules
from tests.day.watch import Episode, Harm, Row, Watch, false_alerts, rows_of
from tests.faults.stage import end_in_order
from tests.integration.processes import wait_until
from tests.monitoring.prometheus import PROGRAM, prometheus

SHORT_FACTOR = 30.0
QUIET_SECONDS = 900
"""How long nothing is hurt at first."""
PAGE_SECONDS = 2400
"""Within which an alert must fire; the longest waits for 15 minutes what takes 15 minutes to begin."""
CLEAR_SECONDS = 2400
"""Within which one must end after the healing; the longest looks back for half an hour."""
LATER_SECONDS = 600
"""For so long after its healing a harm may still raise alerts on rates."""
SPARE_SECONDS = 150
"""What a busy machine and the times that don't go faster take: a minute between two looks at Redis' settings."""
LINGER = BURNS | {
    "HooklineDeadLetters",
    "HooklinePoisonEntries",
    "HooklineWebhookUnusable",
    "HooklineSecretKeyMissing",
    "HooklineInternalFaults",
    "HooklineInternalFaultsMany",
    "HooklineEventsRefused",
    "HooklineEnvironmentFault",
}
"""Those that look back, or of what is looked at once a minute: the day goes on meanwhile."""
DAYS_LONG = frozenset(name for name in BURNS if name.endswith("Slow"))
"""Those that look back for days: nobody waits for their end."""


class Day:
    """One run."""

    def __init__(self, running: Installation, watch: Watch, console: Console) -> None:
        self._running, self._watch, self._console = running, watch, console
        self.harms: list[Harm] = []

    def hurt(self, hurts: Sequence[Hurt]) -> None:
        """Hurt in these ways at the same time, wait for the alerts, heal, and wait for those that don't look back."""
        must = {alert for one in hurts for alert in (*one.must, *one.after)}
        self._wait(lambda: not must & self._watch.firing(), f"end of {must}", CLEAR_SECONDS)
        harms = []
        with ExitStack() as stack:
            for one in hurts:
                self._console.print(f"{one.name} …")
                harm = Harm(one.name, (*one.must, *one.after), one.may, time.monotonic())
                harms.append(harm)
                self.harms.append(harm)
                stack.enter_context(one.act(self._running))
            during = {alert for one in hurts for alert in one.must}
            paged = self._wait(lambda: during <= self._fired(harms), f"all of {sorted(during)}", PAGE_SECONDS)
            began = time.monotonic()
        for harm in harms:
            harm.healed = began
            harm.later_seconds = scaled(LATER_SECONDS, self._running.factor) + SPARE_SECONDS
        if paged:
            self._wait(lambda: must <= self._fired(harms), f"all of {sorted(must)}", PAGE_SECONDS)
        self._wait(lambda: not (must - LINGER) & self._watch.firing(), f"end of {must - LINGER}", CLEAR_SECONDS)
        self._console.print(f"  {time.monotonic() - harms[0].began:.0f} s in all")

    def end(self) -> None:
        """Wait for the alerts that look back for less than a day."""
        self._wait(lambda: not self._watch.firing() - DAYS_LONG, "end of all alerts", CLEAR_SECONDS)

    def _fired(self, harms: Iterable[Harm]) -> set[str]:
        return {one.alert for one in list(self._watch.episodes) if any(harm.explains(one) for harm in harms)}

    def _wait(self, condition: Callable[[], bool], what: str, real_seconds: float) -> bool:
        """Wait for a condition; whether it came true."""
        within = scaled(real_seconds, self._running.factor) + SPARE_SECONDS
        try:
            wait_until(condition, what, seconds=within, every_seconds=0.25)
        except AssertionError as exc:
            self._console.print(f"  [bold red]{exc}[/]; firing: {sorted(self._watch.firing())}")
            return False
        return True


def table(rows: Iterable[Row], factor: float) -> Table:
    """What came of each hurt."""
    title = "as in life" if factor == 1 else f"{factor:g} times faster than in life"
    shown = Table(title=f"Hurts and alerts, {title}", title_justify="left")
    for column in ("hurt", "alert", "seconds to page", "seconds to clear"):
        shown.add_column(column, justify="right" if "seconds" in column else "left")
    last = ""
    for one in rows:
        page = "never" if one.page_seconds is None else f"{one.page_seconds:.0f}"
        clear = "still fires" if one.clear_seconds is None else f"{one.clear_seconds:.0f}"
        clear = "while it lasted" if one.ended_early else clear
        style = "bold red" if is_wrong(one) else ""
        shown.add_row("" if one.harm == last else one.harm, one.alert, page, clear, style=style)
        last = one.harm
    return shown


def is_wrong(row: Row) -> bool:
    """Whether the alert did not do what it is for."""
    never_cleared = row.clear_seconds is None and row.alert not in DAYS_LONG
    return row.page_seconds is None or row.ended_early or never_cleared


def run(folder: Path, factor: float, console: Console, *, only: str | None, together: bool) -> bool:
    """The whole day. Whether every alert was right."""
    with ExitStack() as stack:
        running = stack.enter_context(installation(folder, factor))
        rules = write_rules(folder, factor)
        interval = f"{scrape_seconds(factor)}s"
        server = stack.enter_context(prometheus(folder, running.targets(), interval=interval, rules=rules))
        wait_until(lambda: set(server.scraped().values()) == {"up"}, "scrape of every part")
        wait_until(lambda: not server.alerts(), "scrape of what every part shows", seconds=SPARE_SECONDS)
        watch = Watch(server)
        watch.start()
        stack.callback(watch.stop)
        day = Day(running, watch, console)
        console.print("nothing is hurt …")
        running.rest(scaled(QUIET_SECONDS, factor))
        try:
            for group in HURTS:
                possible = [one for one in group if one.needs() and (only is None or re.search(only, one.name))]
                for hurts in [possible] if together else [[one] for one in possible]:
                    if hurts:
                        day.hurt(hurts)
            day.end()
        finally:  # what was seen is told also of a day that was cut short
            watch.stop()
            right = _tell(day, watch.episodes, factor, console)
        return right


def _tell(day: Day, episodes: Sequence[Episode], factor: float, console: Console) -> bool:
    rows = [row for harm in day.harms for row in rows_of(harm, day.harms, episodes)]
    false = false_alerts(day.harms, episodes)
    console.print(table(rows, factor))
    console.print(f"false alerts: {len(false)}")
    for one in false:
        before = [harm.name for harm in day.harms if harm.began <= one.began]
        console.print(f"  [bold red]{one}[/] after {before[-1:] or 'nothing'}")
    return not false and not any(map(is_wrong, rows))


def main() -> int:
    """Run the day and print its table."""
    parser = argparse.ArgumentParser(prog="python -m tests.day", description=__doc__)
    parser.add_argument("--faster", type=float, default=1.0, help="divide every time in the rules by this (default 1)")
    parser.add_argument("--short", action="store_true", help=f"--faster {SHORT_FACTOR:g} --together")
    parser.add_argument("--together", action="store_true", help="hurts that don't concern each other at the same time")
    parser.add_argument("--only", help="the hurts whose name this regular expression finds")
    parser.add_argument("--logs", type=Path, help="keep the logs of all parts in this folder")
    options = parser.parse_args()
    if PROGRAM is None:
        print("no prometheus here (Debian's package prometheus)", file=sys.stderr)
        return 1
    end_in_order()
    console = Console(width=None if sys.stdout.isatty() else 140)
    factor = SHORT_FACTOR if options.short else options.faster
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hookline-day-") as folder:
        try:
            right = run(Path(folder), factor, console, only=options.only, together=options.short or options.together)
        finally:
            if options.logs is not None:
                options.logs.mkdir(parents=True, exist_ok=True)
                for log in Path(folder).glob("*.log"):
                    shutil.copy(log, options.logs)
    left = [child.name() for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]
    if left:
        console.print(f"[bold red]processes left behind: {left}[/]")
    console.print(f"took {time.monotonic() - began:.0f} s")
    return 0 if right and not left else 1


if __name__ == "__main__":
    sys.exit(main())
