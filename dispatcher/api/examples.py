"""Examples for the OpenAPI document: answers by the name of their schema, requests by their operation.

A test holds each to its schema. They are one story, so that a reader finds the same webhook everywhere.
"""

from __future__ import annotations

from typing import Any

_NOON = "2026-11-23T12:00:00Z"
_MEMBERSHIP = {"entity": "acme", "role": "member"}
_PAYLOAD = {"event_type": "DEPLOY_MODEL", "client_payload": {"version": "${artifact_version_string}"}}
_AUTOMATION = {
    "name": "production-deployment-trigger",
    "description": "Trigger the deployment pipeline when a model is promoted",
    "enabled": True,
    "scope": {"project": "wandb-registry-model", "collection": "llm-models"},
    "event": "ADD_ARTIFACT_ALIAS",
    "filter": {"alias": {"$regex": "^prod(uction)?$"}},
    "action": {"webhook": "deploy-hook", "payload": _PAYLOAD},
}
_WEBHOOK = {
    "name": "deploy-hook",
    "url": "https://ci.example.com/hooks/deploy?project=${PROJECT_KEY}",
    "url_secret": None,
    "access_token": "DEPLOY_TOKEN",
    "basic": None,
    "headers": {"X-Api-Key": "${API_KEY}"},
    "signing_secret": "SIGNING_SECRET",
    "former_signing_secret": "SIGNING_SECRET_2026",
    "former_signing_until": "2026-12-01T12:00:00Z",
    "wandb_signature": "base64",
    "client_certificate": "CLIENT_CERTIFICATE",
    "secrets": ["API_KEY", "DEPLOY_TOKEN", "PROJECT_KEY"],
}
_POLICY = {
    "timeout_seconds": 15.0,
    "connect_timeout_seconds": 5.0,
    "schedule_seconds": [5.0, 30.0, 300.0],
    "jitter": 0.2,
    "retry_after_cap_seconds": 3600.0,
    "retried_statuses": [404, 408, 425, 429, "5xx"],
    "success": {"status": [200], "body": {"ok": True}},
    "rate_limit": "10/s",
    "concurrency": None,
    "circuit_failures": 20,
    "circuit_cool_off_seconds": 10.0,
    "circuit_cool_off_cap_seconds": 300.0,
}
_EVENT = {
    "specversion": "1.0",
    "id": "alias-1042",
    "source": "/platform/eu-1",
    "type": "ADD_ARTIFACT_ALIAS",
    "time": "2026-11-23T11:59:58Z",
    "data": {
        "entity": "acme",
        "project": "wandb-registry-model",
        "author": "alice",
        "collection": {"name": "llm-models", "type": "model"},
        "artifact": {
            "id": "QXJ0aWZhY3Q6NTE3ODg5ODg3",
            "version": "v3",
            "aliases": ["v3"],
            "tags": [],
            "metadata": {"model_type": "llm"},
        },
        "alias": "production",
    },
}
_KEY = {
    "id": "key_7",
    "name": "deployer",
    "hint": "hlk-Zm9v",
    "user": "acme/deployer",
    "created_at": _NOON,
    "last_used_at": None,
    "expires_at": None,
}
_DELIVERY = {
    "id": "dlv_aebagbafaydqqcikbmga2dqpca",
    "status": "delivered",
    "reason": None,
    "automation": {"id": "aut_3", "name": "production-deployment-trigger"},
    "webhook": {"id": "wh_12", "name": "deploy-hook"},
    "event": {
        "id": "alias-1042",
        "source": "/platform/eu-1",
        "type": "ADD_ARTIFACT_ALIAS",
        "received_at": _NOON,
        "project": "wandb-registry-model",
        "run": None,
        "collection": "churn",
    },
    "attempts": 1,
    "next_attempt_at": None,
    "created_at": _NOON,
    "finished_at": _NOON,
    "replay_of": None,
    "waiting": None,
}
_ANSWER_HEADERS = [{"name": "X-Request-Id", "value": "7f2c"}, {"name": "Server", "value": "nginx"}]
_CONNECTION = {"remote_address": "203.0.113.7:443", "tls_version": "TLSv1.3", "reused": False}
_TIMINGS = {"lookup_ms": 1.4, "connect_ms": 11.2, "handshake_ms": 24.9, "first_byte_ms": 48.5}
_SLACK = {"name": "ml-alerts", "url_secret": "SLACK_URL", "team": "Acme", "channel": "#ml-alerts"}
_VERSION = "acme/wandb-registry-model/llm-models:production"

ANSWERS: dict[str, Any] = {
    "Accepted": {"accepted": 1},
    "WebhookView": {
        "id": "wh_12",
        "entity": "acme",
        **_WEBHOOK,
        "policy": _POLICY,
        "enabled": True,
        "paused": False,
        "disabled_reason": None,
        "failing_since": None,
        "circuit": {"state": "closed", "opened_at": None, "next_probe_at": None},
        "unreadable_secrets": [],
        "revision": 41,
        "created_at": _NOON,
        "updated_at": _NOON,
    },
    "SlackView": {
        "id": "slk_13",
        "entity": "acme",
        **_SLACK,
        "policy": _POLICY,
        "enabled": True,
        "paused": False,
        "disabled_reason": None,
        "failing_since": None,
        "circuit": {"state": "closed", "opened_at": None, "next_probe_at": None},
        "revision": 43,
        "created_at": _NOON,
        "updated_at": _NOON,
    },
    "ChangeView": {
        "id": 205,
        "at": _NOON,
        "by": "alice",
        "entity": "acme",
        "action": "webhook.update",
        "target": {"id": "wh_12", "name": "deploy-hook"},
        "detail": {"changed": ["url"]},
    },
    "SecretView": {"name": "DEPLOY_TOKEN", "created_at": _NOON, "updated_at": _NOON, "used_by": ["deploy-hook"]},
    "TrialView": {
        "request": {
            "url": _WEBHOOK["url"],
            "headers": {"Content-Type": "application/json", "Authorization": "Bearer ***ACCESS_TOKEN***"},
            "body": {"event_type": "DEPLOY_MODEL"},
            "bytes": 412,
        },
        "response": {
            "status": 204,
            "body": "",
            "truncated": False,
            "headers": _ANSWER_HEADERS,
            "headers_truncated": False,
            "bytes": 97,
        },
        "connection": _CONNECTION,
        "timings": _TIMINGS,
        "outcome": "2xx",
        "error": None,
        "diagnosis": "It works: the endpoint accepted the request (204).",
        "code": "accepted",
        "duration_ms": 87,
    },
    "DeliveryView": _DELIVERY,
    "DeliveryDetail": {
        **_DELIVERY,
        "replays": [],
        "payload": {"event_type": "DEPLOY_MODEL", "client_payload": {"version": _VERSION}},
        "attempt_log": [
            {
                "number": 1,
                "started_at": _NOON,
                "duration_ms": 87,
                "outcome": "2xx",
                "status_code": 204,
                "error": None,
                "response_body": "",
                "response_truncated": False,
                "request": {
                    "url": _WEBHOOK["url"],
                    "headers": {"Content-Type": "application/json", "Authorization": "Bearer ***ACCESS_TOKEN***"},
                    "bytes": 412,
                },
                "response_headers": _ANSWER_HEADERS,
                "response_headers_truncated": False,
                "response_bytes": 97,
                "connection": _CONNECTION,
                "timings": _TIMINGS,
            }
        ],
    },
    "ReplayCount": {"replayed": 3, "last_due_at": _NOON},
    "ReplayPreview": {"count": 3, "oldest_created_at": _NOON, "newest_created_at": _NOON},
    "Changes": {"changes": [{"kind": "webhook", "name": "deploy-hook", "change": "updated", "detail": ["url"]}]},
    "EntityView": {"name": "acme", "kind": "team", "parent": None, "answers_hidden": False, "created_at": _NOON},
    "EntityDetail": {
        "name": "acme",
        "kind": "team",
        "parent": None,
        "answers_hidden": False,
        "created_at": _NOON,
        "quotas": {
            "automations": {"limit": 1000, "used": 12},
            "webhooks": {"limit": 200, "used": 2},
            "secrets": {"limit": 500, "used": 3},
            "definition_bytes": {"limit": 16_777_216, "used": 9144},
        },
    },
    "ProjectView": {"name": "wandb-registry-model", "description": "Released models", "created_at": _NOON},
    "CollectionView": {
        "project": "wandb-registry-model",
        "name": "llm-models",
        "type": "model",
        "created_at": _NOON,
    },
    "KeyView": _KEY,
    "NewKey": {**_KEY, "key": "hlk-Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyMTI"},
    "UserView": {
        "id": "usr_5",
        "name": "alice",
        "email": "alice@example.com",
        "is_admin": False,
        "roles": [_MEMBERSHIP],
        "default_entity": "acme",
        "created_at": _NOON,
    },
    "MemberView": {"id": "usr_5", "name": "alice", "role": "member"},
    "InvitationView": {
        "entity": "acme",
        "user": "alice",
        "role": "member",
        "invited_by": "bob",
        "created_at": _NOON,
    },
    "AutomationView": {
        "id": "aut_3",
        "entity": "acme",
        **_AUTOMATION,
        "cooldown": None,
        "rate_limit": None,
        "revision": 42,
        "created_at": _NOON,
        "updated_at": _NOON,
        "unmatched": None,
        "ignored_sample": None,
    },
    "Manifest": {"webhooks": [_WEBHOOK], "automations": [_AUTOMATION]},
    "EventTypes": {
        "types": ["ADD_ARTIFACT_ALIAS", "RUN_METRIC"],
        "definitions": ["automation", "webhook", "slack", "manifest"],
    },
    "get_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "RUN_STATE", "type": "object"},
    "Readiness": {"status": "ready", "warnings": []},
}

REQUESTS: dict[str, Any] = {
    "publish_events": _EVENT,
    "create_automation": _AUTOMATION,
    "change_automation": {"enabled": False},
    "create_webhook": _WEBHOOK,
    "change_webhook": {"paused": True, "policy": {"timeout_seconds": 30}},
    "create_slack": _SLACK,
    "change_slack": {"channel": "#releases"},
    "test_webhook": {"payload": {"text": "hello from ${entity_name}"}},
    "put_secret": {"value": "s3cr3t"},
    "replay_deliveries": {"status": "dead", "webhook": "deploy-hook", "since": _NOON},
    "apply": {"webhooks": [_WEBHOOK], "automations": [_AUTOMATION], "prune": False},
    "put_entity": {"kind": "team"},
    "change_entity": {"quotas": {"automations": 5000, "webhooks": None}},
    "put_project": {"description": "Released models"},
    "put_collection": {"type": "model"},
    "create_key": {"name": "deployer", "entity": "acme", "role": "publisher"},
    "create_user": {"name": "alice", "email": "alice@example.com", "roles": [_MEMBERSHIP]},
    "change_user": {"roles": [_MEMBERSHIP]},
    "put_member": {"role": "member"},
}
