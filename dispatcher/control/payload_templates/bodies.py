"""The body that each service asks for, for the events of one type."""

from __future__ import annotations

from typing import Any, Final

from dispatcher.control.payload_templates.words import Words
from shared.domain.events.types import NOTICE_TYPES, EventType

_FAILING: Final = frozenset({EventType.WEBHOOK_DISABLED, EventType.WEBHOOK_CIRCUIT_OPENED, EventType.DEAD_LETTER})


def github_dispatch(words: Words) -> Any:
    """`client_payload` has ten members at most."""
    return {"event_type": "hookline", "client_payload": {**words.facts, "delivery": "${delivery_id}"}}


def github_workflow(words: Words) -> Any:
    """All inputs are text."""
    return {"ref": "main", "inputs": dict(words.facts)}


def gitlab_trigger(words: Words) -> Any:
    """Variables are text."""
    variables = {f"ML_{name.upper()}": value for name, value in words.facts.items()}
    return {"token": "${GITLAB_TRIGGER_TOKEN}", "ref": "main", "variables": variables}


def slack_text(words: Words) -> dict[str, Any]:
    """Plain text: what a value has of mark-up is shown as it is."""
    context = "${event_type} in ${entity_name}"
    return {
        "text": words.sentence,
        "blocks": [
            {"type": "section", "text": {"type": "plain_text", "text": words.sentence}},
            {"type": "context", "elements": [{"type": "plain_text", "text": context}]},
        ],
    }


def slack_message(words: Words) -> Any:
    """The channel is named by its id."""
    return {"channel": "CHANNEL_ID", **slack_text(words)}


def teams_card(words: Words) -> Any:
    """An envelope with one card."""
    facts = [{"title": name, "value": value} for name, value in words.facts.items()]
    return {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        {"type": "TextBlock", "text": words.sentence, "weight": "Bolder", "wrap": True},
                        {"type": "FactSet", "facts": facts},
                    ],
                },
            }
        ],
    }


def discord(words: Words) -> Any:
    """Fields have a text each, and nobody is mentioned."""
    fields = [{"name": name, "value": value, "inline": True} for name, value in words.facts.items()]
    return {
        "content": words.sentence,
        "embeds": [{"title": "${event_type}", "fields": fields}],
        # Without it a run's name could mention everybody.
        "allowed_mentions": {"parse": []},
    }


def pagerduty(words: Words) -> Any:
    """An alert of its own for each delivery."""
    return {
        "routing_key": "${PAGERDUTY_ROUTING_KEY}",
        "event_action": "trigger",
        "dedup_key": "${delivery_id}",
        "client": "Hookline",
        "payload": {
            "summary": words.sentence,
            "source": words.subject,
            "severity": "error" if words.event in _FAILING else "warning",
            "component": "hookline",
            "class": "${event_type}",
            "custom_details": dict(words.facts),
        },
    }


def opsgenie(words: Words) -> Any:
    """Details are text."""
    return {
        # At most 130 characters; the sentence may be longer.
        "message": "Hookline: ${event_type}",
        "alias": "${delivery_id}",
        "description": words.sentence,
        "details": dict(words.facts),
        "source": "Hookline",
        "tags": ["hookline"],
        "priority": "P2" if words.event in _FAILING else "P3",
    }


def jenkins(words: Words) -> Any:
    """The job's parameters."""
    return {f"ML_{name.upper()}": value for name, value in words.facts.items()}


def airflow(words: Words) -> Any:
    """The run is named by the delivery, so that it begins once."""
    return {"dag_run_id": "hookline__${delivery_id}", "logical_date": None, "conf": dict(words.facts)}


def plain_facts(words: Words) -> Any:
    """What happened, with values of their types."""
    more = {"metadata": "${artifact_metadata}"} if "version" in words.facts else {}
    more = {"config": "${run_config}"} if "run_id" in words.facts else more
    return {"delivery": "${delivery_id}", "time": "${event_time}", "text": words.sentence, **words.facts, **more}


def cloudevent(words: Words) -> Any:
    """The delivery is the event."""
    # A null stands for an attribute that is not set (JSON format 1.0.2, section 2.2), as `time` may be.
    return {
        "specversion": "1.0",
        "id": "${delivery_id}",
        "source": "urn:hookline",
        "type": f"hookline.{'notice' if words.event in NOTICE_TYPES else 'firing'}",
        "subject": words.subject,
        "time": "${event_time}",
        "datacontenttype": "application/json",
        "data": {name: value for name, value in plain_facts(words).items() if name not in ("delivery", "time")},
    }
