"""What the demo prints: the table that fills while deliveries arrive, and the account at the end.

Only shows; it must not decide what is right, which is `examples.verdict`'s.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from examples.expectation import DEFAULT_RUN_COOLDOWN, Firing
from examples.receiver import Received
from examples.service import HistoryRow
from examples.verdict import arrived, key_of

PLAIN_WIDTH = 150
EXCERPT_CHARS = 160


class Board:
    """A live table on a terminal; elsewhere one line whenever the counts have changed, and the table at the end."""

    def __init__(
        self, automations: Sequence[Mapping[str, Any]], expected: Sequence[Firing], secrets: Mapping[str, str]
    ) -> None:
        console = Console()
        self.console = console if console.is_terminal else Console(width=max(console.width, PLAIN_WIDTH))
        self._automations = automations
        self._expected = expected
        self._secrets = secrets
        self._live = Live(console=self.console, auto_refresh=False) if console.is_terminal else nullcontext()
        self._counts = (-1, -1)
        self._table = Table()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, exc, trace)
        if not isinstance(self._live, Live):
            self.console.print(self._table)

    def say(self, text: str) -> None:
        """A line of plain text, with secrets masked."""
        self.console.print(Text(self._masked(text)), soft_wrap=True)

    def show(self, records: Sequence[Received], history: Sequence[HistoryRow]) -> None:
        """Bring the table, or the line of counts, up to date."""
        self._table = self._filled(records, history)
        counts = len(arrived(records)), sum(row.status == "skipped" for row in history)
        if isinstance(self._live, Live):
            self._live.update(self._table, refresh=True)
        elif counts != self._counts:
            self.say(f"  {counts[0]:3} arrived, {counts[1]:3} skipped")
        self._counts = counts

    def _filled(self, records: Sequence[Received], history: Sequence[HistoryRow]) -> Table:
        table = Table(title="Automations of acme", expand=True)
        for heading in ("automation", "event"):
            table.add_column(heading, no_wrap=True)
        for heading in ("expected", "arrived", "skipped"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("last payload", ratio=1, no_wrap=True, overflow="ellipsis")
        wanted = Counter(firing.automation for firing in self._expected if firing.status == "delivered")
        came = Counter(key_of(record)[0] for record in arrived(records))
        held = Counter(row.automation for row in history if row.status == "skipped")
        last = {key_of(record)[0]: record for record in arrived(records)}
        for automation in self._automations:
            name = automation["name"]
            style = "green" if came[name] == wanted[name] else "yellow"
            table.add_row(
                name,
                automation["event"],
                str(wanted[name]),
                Text(str(came[name]), style),
                str(held[name]),
                self._excerpt(last.get(name)),
            )
        return table

    def account(self, records: Sequence[Received], history: Sequence[HistoryRow]) -> None:
        """What did not fire and why, and what had to be tried again."""
        self._say_skipped(history)
        self._say_silent(history)
        failed = [record for record in records if record.status == HTTPStatus.INTERNAL_SERVER_ERROR]
        self.say(f"Tried again: {len(failed)} deliveries were answered with 500 at first.")
        for record in failed:
            later = [other.attempt for other in arrived(records) if other.webhook_id == record.webhook_id]
            outcome = f"arrived on attempt {later[0]}" if later else "never arrived"
            self.say(f"  {' on '.join(key_of(record))}: {outcome}, same webhook-id")

    def _say_skipped(self, history: Sequence[HistoryRow]) -> None:
        self.say("Held back:")
        skipped = Counter((row.automation, row.reason) for row in history if row.status == "skipped")
        limits = {automation["name"]: _limits(automation) for automation in self._automations}
        for (name, reason), count in sorted(skipped.items()):
            self.say(f"  {name}: {count} skipped, {reason} ({limits.get(name, 'unknown automation')})")

    def _say_silent(self, history: Sequence[HistoryRow]) -> None:
        self.say("Never fired:")
        fired = {row.automation for row in history}
        expected = {firing.automation for firing in self._expected}
        for automation in self._automations:
            name = automation["name"]
            if name not in fired:
                agrees = "but should have" if name in expected else "as expected"
                why = automation.get("description", "")
                self.say(f"  {name}: {agrees}. {why}")

    def _excerpt(self, record: Received | None) -> Text:
        """The payload's own members."""
        if record is None:
            return Text("")
        members = {key: value for key, value in record.body.items() if key not in ("automation", "event")}
        return Text(self._masked(json.dumps(members, ensure_ascii=False))[:EXCERPT_CHARS])

    def _masked(self, text: str) -> str:
        for name, value in self._secrets.items():
            text = text.replace(value, f"***{name}***")
        return text


def _limits(automation: Mapping[str, Any]) -> str:
    """What may hold an automation's firings back, in words."""
    cooldown = automation.get("cooldown", DEFAULT_RUN_COOLDOWN if automation["event"].startswith("RUN_") else None)
    words = [f"one per {cooldown['per']} in {cooldown['period']}"] if cooldown else []
    words += [f"at most {automation['rate_limit']}"] if "rate_limit" in automation else []
    return ", ".join(words)
