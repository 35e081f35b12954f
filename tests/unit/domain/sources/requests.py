"""Requests as the services send them, by their public documentation: bodies, headers and signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

from shared.domain.sources.model import InboundRequest, Source, SourceKind
from shared.domain.sources.parsing import source_of

SECRET = "a secret of sixteen"
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
COMMIT = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
ZEROS = "0" * 40


def source(kind: str, **definition: Any) -> Source:
    """A source of this kind, of the entity acme."""
    if kind != "generic":
        definition.setdefault("project", "wandb-registry-model")
    return source_of("in", SourceKind(kind), "acme", definition)


def request(body: object, headers: dict[str, str] | None = None, query: dict[str, str] | None = None) -> InboundRequest:
    """A request with this body, as JSON unless it is bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return InboundRequest({"content-type": "application/json", **(headers or {})}, query or {}, raw)


def mlflow_body(what: str, **data: Any) -> dict[str, Any]:
    """A body of MLflow's: `what` is such as `model_version.created`."""
    entity, action = what.split(".")
    return {"entity": entity, "action": action, "timestamp": "2026-11-23T08:59:58.123456+00:00", "data": data}


def mlflow_headers(body: bytes, *, secret: str = SECRET, delivery: str = "d-1", at: datetime = NOW) -> dict[str, str]:
    """The headers that MLflow 3 signs with (mlflow/webhooks/delivery.py, and its documentation)."""
    timestamp = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": timestamp,
        "x-mlflow-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def github_headers(body: bytes, event: str, *, secret: str = SECRET, delivery: str = "g-1") -> dict[str, str]:
    """The headers of a delivery of GitHub's."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-github-event": event, "x-github-delivery": delivery, "x-hub-signature-256": f"sha256={digest}"}


def github_push(ref: str = "refs/tags/churn@v1.2.3", **more: Any) -> dict[str, Any]:
    """A push, cut down to what matters (payload-examples of octokit/webhooks)."""
    return {
        "ref": ref,
        "before": ZEROS,
        "after": "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7",
        "created": True,
        "deleted": False,
        "head_commit": {"id": COMMIT, "message": "Train longer", "timestamp": "2026-11-23T09:50:00+01:00"},
        "repository": {"id": 186853002, "name": "models", "full_name": "acme/models", "pushed_at": 1557933657},
        "pusher": {"name": "alice", "email": "alice@example.com"},
        "sender": {"login": "alice", "id": 21031067},
        **more,
    }


def github_release(tag: str, action: str = "published") -> dict[str, Any]:
    """A release."""
    return {
        "action": action,
        "release": {
            "id": 17372790,
            "tag_name": tag,
            "target_commitish": "main",
            "name": "Churn 1.2",
            "prerelease": False,
            "html_url": f"https://github.com/acme/models/releases/tag/{tag}",
            "published_at": "2026-11-23T08:58:00Z",
            "author": {"login": "alice"},
        },
        "repository": {"id": 186853002, "name": "models", "full_name": "acme/models"},
    }


def gitlab_tag(tag: str, **more: Any) -> dict[str, Any]:
    """A push of a tag to GitLab."""
    return {
        "object_kind": "tag_push",
        "event_name": "tag_push",
        "before": ZEROS,
        "after": "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7",
        "ref": f"refs/tags/{tag}",
        "checkout_sha": COMMIT,
        "message": "Ship it",
        "user_name": "Alice A.",
        "user_username": "alice",
        "project_id": 1,
        "project": {"id": 1, "name": "models", "path_with_namespace": "acme/models"},
        **more,
    }


def gitlab_release(tag: str, action: str = "create") -> dict[str, Any]:
    """A release of GitLab's."""
    return {
        "id": 1,
        "object_kind": "release",
        "action": action,
        "tag": tag,
        "name": "Churn 1.2",
        "url": f"https://gitlab.example.com/acme/models/-/releases/{tag}",
        "commit": {"id": COMMIT, "message": "Ship it", "author": {"name": "Alice A.", "email": "alice@example.com"}},
        "project": {"id": 1, "name": "models", "path_with_namespace": "acme/models"},
    }


def hub_body(*refs: tuple[str, str | None, str | None], scope: str = "repo.content") -> dict[str, Any]:
    """A body of the Hugging Face Hub's: references with their old and new commits."""
    return {
        "event": {"action": "update", "scope": scope},
        "repo": {
            "type": "model",
            "name": "acme/churn",
            "id": "6366c000a2abcdf2fd69a080",
            "private": True,
            "headSha": COMMIT,
            "tags": ["license:mit", "pytorch"],
            "owner": {"id": "61d2000c3c2083e1c08af22d"},
        },
        "updatedRefs": [{"ref": ref, "oldSha": old, "newSha": new} for ref, old, new in refs],
        "webhook": {"id": "6390e855e30d9209411de93b", "version": 3},
    }


def azure_event(name: str, data: dict[str, Any], *, cloud: bool = True, **more: Any) -> dict[str, Any]:
    """An event of Azure Machine Learning's in the schema of CloudEvents, or in Event Grid's own."""
    workspace = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    kind = f"Microsoft.MachineLearningServices.{name}"
    common = {"subject": "models/churn:20", "id": "831e1650-001e-001b-66ab-eeb76e069631", "data": data}
    if cloud:
        return {
            "specversion": "1.0",
            "source": workspace,
            "type": kind,
            "time": "2026-11-23T08:59:00Z",
            **common,
            **more,
        }
    return {
        "topic": workspace,
        "eventType": kind,
        "eventTime": "2026-11-23T08:59:00.9584103Z",
        "dataVersion": "",
        "metadataVersion": "1",
        **common,
        **more,
    }


REGISTERED = {
    "ModelName": "churn",
    "ModelVersion": 20,
    "ModelTags": {"area": "sales", "type": "regression"},
    "ModelProperties": {"val_accuracy": "0.93"},
}
