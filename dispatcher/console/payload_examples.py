"""Payloads to start from, for what teams call most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXAMPLES: Mapping[str, dict[str, Any]] = {
    "GitHub dispatch": {
        "event_type": "hookline",
        "client_payload": {
            "event_author": "${event_author}",
            "artifact_version": "${artifact_version}",
            "artifact_version_string": "${artifact_version_string}",
            "artifact_collection_name": "${artifact_collection_name}",
            "project_name": "${project_name}",
            "entity_name": "${entity_name}",
        },
    },
    "Teams": {
        "@type": "MessageCard",
        "@context": "http://schema.org/extensions",
        "summary": "New notification",
        "sections": [
            {
                "activityTitle": "Notification from Hookline",
                "text": "This is an example message sent via a Teams webhook.",
                "facts": [
                    {"name": "Author", "value": "${event_author}"},
                    {"name": "Event type", "value": "${event_type}"},
                ],
                "markdown": True,
            }
        ],
    },
    "Slack": {
        "text": "New alert from Hookline",
        "blocks": [
            {
                "type": "section",
                "text": {"type": "mrkdwn", "text": "*${artifact_version_string}*: ${event_type} by ${event_author}"},
            }
        ],
    },
    "Everything": {
        "event": "${event_type}",
        "author": "${event_author}",
        "entity": "${entity_name}",
        "project": "${project_name}",
        "version": "${artifact_version_string}",
        "run": "${run_id}",
        "metric": "${metric_name}",
        "value": "${metric_value}",
    },
}

HINTS: Mapping[str, str] = {
    "GitHub dispatch": "event_type must be one of the types that the workflow's repository_dispatch names. "
    "The webhook's access token is a token of GitHub that may write to the repository.",
    "Teams": "The webhook's URL is that of an incoming webhook of the channel.",
    "Slack": "The webhook needs a bot token as its access token. "
    "A Slack integration, as the action type, needs neither that nor a payload.",
}
"""What a receiver asks for beside its payload."""
