"""Deliveries as CSV or JSON Lines, a page at a time. Payloads and attempts are not in it, nor any secret.

The columns and their order are a promise to programs that read the files. Must not hold more than a page in memory.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum

from dispatcher.control.delivery_views import DeliveryView

COLUMNS = (
    "id",
    "status",
    "reason",
    "automation_id",
    "automation",
    "webhook_id",
    "webhook",
    "event_id",
    "event_source",
    "event_type",
    "event_received_at",
    "attempts",
    "next_attempt_at",
    "created_at",
    "finished_at",
    "replay_of",
)
# Spreadsheets take a cell for a formula that begins so (https://owasp.org/www-community/attacks/CSV_Injection), also in
# full width, which some convert, and after spaces and invisible characters, which some leave out.
_SKIPPED = r"[\s\x00-\x20\u00ad\u180e\u200b-\u200f\u2028-\u202f\u2060-\u2069\ufeff]"
_SIGNS = r"[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212]"
_FORMULA = re.compile(rf"{_SKIPPED}*{_SIGNS}|[\t\r\n]")


class ExportFormat(StrEnum):
    """How an export is written."""

    #: RFC 4180 with a header line; times in RFC 3339, nothing as an empty cell.
    CSV = "csv"
    #: One delivery a line, as it is listed.
    JSONL = "jsonl"


MEDIA_TYPES = {ExportFormat.CSV: "text/csv; charset=utf-8", ExportFormat.JSONL: "application/jsonl"}


def format_header(form: ExportFormat) -> str:
    """The text before the first page: the header line of a CSV, nothing in JSON Lines."""
    return _csv([COLUMNS]) if form is ExportFormat.CSV else ""


def format_page(page: Sequence[DeliveryView], form: ExportFormat) -> str:
    """A page of deliveries, one a line."""
    return _WRITERS[form](page)


def _format_csv(page: Sequence[DeliveryView]) -> str:
    return _csv([tuple(map(_cell, _row(view))) for view in page])


def _format_jsonl(page: Sequence[DeliveryView]) -> str:
    return "".join(f"{view.model_dump_json()}\n" for view in page)


_WRITERS: dict[ExportFormat, Callable[[Sequence[DeliveryView]], str]] = {
    ExportFormat.CSV: _format_csv,
    ExportFormat.JSONL: _format_jsonl,
}


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _row(view: DeliveryView) -> tuple[object, ...]:
    return (
        view.id,
        view.status,
        view.reason,
        view.automation and view.automation.id,
        view.automation and view.automation.name,
        view.webhook and view.webhook.id,
        view.webhook and view.webhook.name,
        view.event.id,
        view.event.source,
        view.event.type,
        view.event.received_at,
        view.attempts,
        view.next_attempt_at,
        view.created_at,
        view.finished_at,
        view.replay_of,
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    text = str(value)
    return f"'{text}" if _FORMULA.match(text) else text
