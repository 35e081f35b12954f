"""The recipes in docs/sources: each definition can be applied, and makes events of what the service documents."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.api.conftest import ACME, Api

DOCS = Path(__file__).parents[3] / "docs/sources"
SAGEMAKER: dict[str, Any] = {
    "version": "0",
    "id": "844e2571-85d4-695f-b930-0153b71dcb42",
    "detail-type": "SageMaker Model Package State Change",
    "source": "aws.sagemaker",
    "time": "2026-11-23T17:00:14Z",
    "detail": {
        "ModelPackageGroupName": "churn",
        "ModelPackageVersion": 3,
        "ModelPackageArn": "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/3",
        "ModelPackageStatus": "Completed",
        "ModelApprovalStatus": "Approved",
    },
}
TRAINING: dict[str, Any] = {
    "id": "1",
    "detail-type": "SageMaker Training Job State Change",
    "source": "aws.sagemaker",
    "time": "2026-11-23T17:00:14Z",
    "detail": {
        "TrainingJobName": "churn-9",
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/churn-9",
        "TrainingJobStatus": "Failed",
        "FailureReason": "OutOfMemory",
    },
}
VERTEX: dict[str, Any] = {
    "insertId": "x1",
    "timestamp": "2026-11-23T17:00:14.123Z",
    "protoPayload": {
        "methodName": "google.cloud.aiplatform.v1.ModelService.UploadModel",
        "resourceName": "projects/p/locations/l/models/churn",
        "authenticationInfo": {"principalEmail": "alice@example.com"},
        "request": {"model": {"displayName": "churn"}},
    },
}
KNATIVE = {"project": "models", "collection": {"name": "churn"}, "artifact": {"id": "a"}, "alias": "prod"}
COMET = {
    "event": "model_version_stage_changed",
    "id": "1",
    "model": "churn",
    "version_id": "a",
    "version": "1.0.0",
    "stage": "x",
}
CE = {"ce-type": "ADD_ARTIFACT_ALIAS", "ce-id": "1", "ce-source": "/k"}
SENT: list[tuple[str, dict[str, str], dict[str, Any], str]] = [
    ("sagemaker", {}, SAGEMAKER, "ADD_ARTIFACT_ALIAS"),
    ("sagemaker", {}, TRAINING, "RUN_STATE"),
    ("vertex", {}, VERTEX, "CREATE_ARTIFACT"),
    ("knative", CE, KNATIVE, "ADD_ARTIFACT_ALIAS"),
    ("comet", {}, COMET, "ADD_ARTIFACT_ALIAS"),
]


def recipes() -> list[dict[str, Any]]:
    """Every source that a page of docs/sources defines."""
    pages = [page.read_text() for page in sorted(DOCS.glob("*.md"))]
    blocks = [block.partition("```")[0] for page in pages for block in page.split("```yaml\n")[1:]]
    documents = [yaml.safe_load(textwrap.dedent(block)) for block in blocks]
    return [source for one in documents if isinstance(one, dict) for source in one.get("sources", ())]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_each_recipe_is_applied_and_makes_the_event_that_it_promises(api: Api) -> None:
    found = {source["name"]: source for source in recipes()}
    assert set(found) == {"comet", "knative", "mlflow", "models repo", "sagemaker", "vertex"}
    for secret in {source["secret"] for source in found.values()}:
        api.ok("PUT", f"{ACME}/secrets/{secret}", {"value": "a secret for a recipe"}, status=201)
    changes = api.ok("POST", f"{ACME}/apply", {"sources": list(found.values())})["changes"]
    assert {change["change"] for change in changes} == {"created"}
    ids = {source["name"]: source["id"] for source in api.ok("GET", f"{ACME}/sources")["items"]}
    for name, headers, body, kind in SENT:
        trial = {"headers": headers, "body": json.dumps(body)}
        tried = api.ok("POST", f"{ACME}/sources/{ids[name]}/test", trial)
        assert ([event["type"] for event in tried["events"]], tried["faults"]) == ([kind], []), name
