"""Slack messages about firings, as an incoming webhook accepts them (https://docs.slack.dev, messaging with webhooks).

A message has a severity, a title and a text that the automation defines, and the event's facts. Every value
that an event brings is escaped as Slack's mrkdwn asks (`&`, `<`, `>`) and no plain address becomes a link by itself, so
that no value can forge a link or a mention. Must not put a secret anywhere: it takes none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType
from shared.domain.payloads.cutting import parse_payload
from shared.domain.payloads.sealed import as_unicode, open_payload
from shared.domain.payloads.templates import Template

# Slack accepts 3,000 characters in a section and 2,000 in a field of one; texts are cut well below that.
MAX_TITLE_CHARS = 250
MAX_MESSAGE_CHARS = 2900
MAX_FACT_CHARS = 300
_PART_OF_ENTITY = re.compile(r"&[a-z]{0,3}$")
_BREAKS = re.compile(r"\s+")


class Severity(StrEnum):
    """The severities of messages, those of W&B's automation actions."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


_ASKED = ("metric_summary", "alert_title", "alert_text", "alert_level", "automation_url", "delivery_url")
_EMOJI = {Severity.INFO: ":information_source:", Severity.WARN: ":warning:", Severity.ERROR: ":rotating_light:"}
_COLOURS = {Severity.INFO: "#1D9BD1", Severity.WARN: "#ECB22E", Severity.ERROR: "#E01E5A"}


@dataclass(frozen=True, slots=True)
class SlackMessage:
    """An accepted message. `render` makes the sealed payload of one delivery of it, as a payload's template does."""

    name: str
    """The title if the defined one is blank: the automation's name."""
    severity: Severity
    variables: frozenset[str]
    _texts: Template = field(repr=False)
    secrets: frozenset[str] = frozenset()
    """The secrets that it needs: none."""

    @property
    def asked(self) -> tuple[str, ...]:
        """The variables that are found only for who asks."""
        return tuple({*self._texts.asked, *_ASKED})

    @property
    def literal_chars(self) -> int:
        """How long it is at most: Slack takes no more."""
        return MAX_TITLE_CHARS + MAX_MESSAGE_CHARS + 10 * MAX_FACT_CHARS

    @property
    def large_places(self) -> int:
        """How many places its texts have for values that may be large."""
        return self._texts.large_places

    def least_bytes(self, _values: Mapping[str, str]) -> int:
        """How long the payload is at least, without making it. What is long is cut."""
        return 0

    def unfilled(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """The variables that have no value here, and a place without a default."""
        return self._texts.unfilled(values)

    def render(self, values: Mapping[str, str]) -> str:
        """The sealed payload of one delivery; a variable without a value renders blank.

        Raises:
            PayloadTooLarge: as `Template.render` does.
        """
        named = {name: escape(values[name]) for name in self.variables if name in values}
        texts = orjson.loads(open_payload(self._texts.render(named), {}))
        title = _line(texts["title"]) or escape(_line(self.name))
        message = _body(title, texts["message"].strip(), list(_facts(values)), self.severity, list(_links(values)))
        return orjson.dumps(message).decode().replace("$", "$$")


def parse_slack_message(
    *, name: str, title: object, message: object, severity: Severity, event: EventType | None = None
) -> SlackMessage:
    """Parse a message's texts: `${name}` and `$NAME` stand for variables, as in payloads, and never for a secret.

    None stands for a text that is not defined, and for an event type that is not known yet.

    Raises:
        InvalidDefinition: at `title` or `message`, for a value that is no text or names what is not available.
    """
    for member, text in (("title", title), ("message", message)):
        if text is not None and not isinstance(text, str):
            raise InvalidDefinition.at((member,), "must be text")
    texts = parse_payload(
        {"title": title or "", "message": message or ""}, secrets=(), has_access_token=False, event=event
    )
    return SlackMessage(name, severity, texts.variables, texts)


def escape(text: str) -> str:
    """Text as Slack's mrkdwn writes it, so that nothing in it is a link, a mention or a date."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _body(
    title: str, message: str, facts: list[tuple[str, str]], severity: Severity, links: list[str]
) -> dict[str, Any]:
    title = _cut(title, MAX_TITLE_CHARS)
    blocks: list[dict[str, Any]] = []
    if message:
        blocks.append(_section(_cut(message, MAX_MESSAGE_CHARS)))
    fields = [_mrkdwn(f"*{label}*\n{_cut(escape(_line(as_unicode(value))), MAX_FACT_CHARS)}") for label, value in facts]
    blocks.append({"type": "section", "fields": fields})
    if links:
        blocks.append({"type": "context", "elements": [_mrkdwn(" · ".join(links))]})
    return {
        "text": f"{severity}: {title}",
        "blocks": [_section(f"{_EMOJI[severity]} *{title}*")],
        "attachments": [{"color": _COLOURS[severity], "blocks": blocks}],
    }


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    # Verbatim: what merely looks like an address or a channel stays text; `<…>` that the automation wrote works.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _facts(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The event's facts that have a value, at most ten, as many as Slack accepts in a section."""
    get = values.get
    bound = f" (threshold {get('metric_threshold')})" if get("metric_threshold") else ""
    metric = get("metric_summary") or f"{get('metric_name')} = {get('metric_value')}{bound}"
    facts = (
        ("Event", get("event_type")),
        ("Project", f"{get('entity_name')}/{get('project_name')}" if get("project_name") else None),
        ("Entity", None if get("project_name") else get("entity_name")),
        ("Webhook", get("webhook_name")),
        ("Reason", get("reason")),
        ("Automation", get("automation_name") or get("dead_letter_automation")),
        ("Dead letter", get("dead_letter_id")),
        ("Version", get("artifact_version_string")),
        ("Collection", None if get("artifact_version_string") else get("artifact_collection_name")),
        ("Tag", get("tag")),
        ("Run", f"{get('run_name') or get('run_id')} ({get('run_id')})" if get("run_id") else None),
        ("State", get("run_state")),
        ("Alert", f"{get('alert_level')}: {get('alert_title')}" if get("alert_title") else None),
        ("Text", get("alert_text")),
        ("Metric", metric if get("metric_name") else None),
        ("Author", get("event_author")),
        ("Time", get("event_time")),
    )
    return ((label, value) for label, value in facts if value)


def _links(values: Mapping[str, str]) -> Iterator[str]:
    """Links to the console's pages about the firing, where its address is known."""
    for text, name in (("Delivery in Hookline", "delivery_url"), ("Automation", "automation_url")):
        if url := values.get(name):
            yield f"<{escape(url)}|{text}>"


def _line(text: str) -> str:
    """The text on one line: bold text ends where a line does."""
    return _BREAKS.sub(" ", text).strip()


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters, and no half of an escaped character."""
    return text if len(text) <= limit else _PART_OF_ENTITY.sub("", text[: limit - 1]) + "…"
