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
