"""Writes docs/settings.md and docs/metrics.md from the code: `python -m dispatcher.reference.settings_page [--check]`.

The pages are generated and never edited. Must not describe anything that the settings don't say themselves.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click
from annotated_types import Ge, Le

from dispatcher.reference.metrics_page import metrics_reference
from shared.domain.durations import format_duration
from shared.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
METRICS_PAGE = PAGE.with_name("metrics.md")
HEAD = """\
# Settings

Every setting is an environment variable. An invalid value is refused at start, with the variable's name. A variable
`HOOKLINE_…` that is not a setting is refused too, with the nearest names; ignored are blank ones, `HOOKLINE_IMAGE` and
`HOOKLINE_PUBLISH` of the compose file, and those that Kubernetes makes of services. Durations are written like `500ms`,
`30s`, `15m`, `24h` or `5d`. Give all parts of an installation the same settings; only ports and files may differ by
process. This page is generated: `make docs`.
"""
TABLE = """
## {title}

| variable | default | meaning |
|---|---|---|
"""
SECTIONS = {
    "data_dir": "Servers and keys",
    "host": "API and commands",
    "partitions": "Streams and what is kept",
    "allowed_networks": "Webhooks",
    "evaluate_batch": "How workers and dispatcher work",
    "metrics_port": "Metrics, traces, logs",
}
"""The first setting of each section, and its title."""
TAIL = """
## Others

| variable | meaning |
|---|---|
| `OTEL_EXPORTER_OTLP_ENDPOINT` and the other `OTEL_*` variables | OpenTelemetry's own; read if `HOOKLINE_OTEL` is on |
| `PROMETHEUS_MULTIPROC_DIR` | where one worker's processes share their counts; see [metrics.md](metrics.md) |
| `NO_COLOR` | no colours in what commands print |

Celery's own options (`--pool`, `--concurrency`, `-Q`, `-n`, `--loglevel`, `--logfile`) work as usual: see
[brokers.md](brokers.md#celerys-own-tools).
"""


def reference() -> str:
    """The page: one row for each setting, in the order in which they are declared."""
    text = HEAD
    for name, info in Settings.model_fields.items():
        if name in SECTIONS:
            text += TABLE.format(title=SECTIONS[name])
        text += f"| {' | '.join(_row(name, info))} |\n"
    return text + TAIL


def _row(name: str, info: FieldInfo) -> tuple[str, str, str]:
    meaning = " ".join(part for part in (info.description, _accepted(info)) if part)
    return f"`{ENV_PREFIX}{name.upper()}`", _default(info.default), meaning.replace("|", "\\|")


def _default(value: Any) -> str:
    if value in (None, (), ""):
        return "unset"
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    return f"`{value}`"


def _accepted(info: FieldInfo) -> str:
    """The choices or limits of a setting's values, besides its type."""
    if get_origin(info.annotation) is Literal:
        return f"One of {', '.join(f'`{choice}`' for choice in get_args(info.annotation))}."
    lowest = next((limit.ge for limit in info.metadata if isinstance(limit, Ge)), None)
    highest = next((limit.le for limit in info.metadata if isinstance(limit, Le)), None)
    if lowest is None and highest is None:
        return ""
    return f"From {lowest} to {highest}." if highest is not None else f"At least {lowest}."


@click.command()
@click.option("--check", is_flag=True, help="Only say whether the pages are up to date.")
def main(check: bool) -> None:
    """Write docs/settings.md from the settings, and docs/metrics.md from the metrics."""
    old = False
    for page, text in ((PAGE, reference()), (METRICS_PAGE, metrics_reference())):
        if not check:
            page.write_text(text, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != text:
            click.echo(f"{page} is out of date: run `make docs`", err=True)
            old = True
    if old:
        sys.exit(1)
