"""Every event that the client can name, in every scope it allows: made, read back, fired."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdk.conftest import Hookline
from tests.sdk.scopes import SCOPES, event_in, looked_up, owner, prepare

# The client reads a field of its own that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

LOCAL = ("collection of a registry", "collection of a project")
RUNS = ("project", "team", "organization")

_ARTIFACT_EVENTS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # class: published as, filter, data that match, data that do not
    "OnCreateArtifact": ("CREATE_ARTIFACT", {"artifact_type": "model"}, {}, {"collection": {"name": "llm-models"}}),
    "OnLinkArtifact": ("LINK_ARTIFACT", {}, {}, {}),
    "OnUnlinkArtifact": ("UNLINK_ARTIFACT", {}, {}, {}),
    "OnAddArtifactAlias": ("ADD_ARTIFACT_ALIAS", {"alias": "prod"}, {"alias": "prod"}, {"alias": "production"}),
    "OnAddArtifactTag": ("ADD_ARTIFACT_TAG", {"tag": {"$regex": "^ok"}}, {"tag": "ok-1"}, {"tag": "not ok"}),
    "OnRemoveArtifactTag": ("REMOVE_ARTIFACT_TAG", {"tag": {"$contains": "k"}}, {"tag": "ok"}, {"tag": "no"}),
    "OnAddCollectionTag": ("ADD_COLLECTION_TAG", {"tag": {"$in": ["a", "b"]}}, {"tag": "b"}, {"tag": "c"}),
    "OnRemoveCollectionTag": ("REMOVE_COLLECTION_TAG", {"tag": {"$ne": "c"}}, {"tag": "b"}, {"tag": "c"}),
}


@pytest.mark.parametrize("name", list(_ARTIFACT_EVENTS))
def test_artifact_events(hookline: Hookline, name: str) -> None:
    import wandb.automations as wa

    prepare(hookline)
    published, matched, matching, other = _ARTIFACT_EVENTS[name]
    expression = {"filter": matched} if matched else {}
    api = hookline.client()
    for scope in LOCAL if name == "OnCreateArtifact" else SCOPES:
        hook = hookline.webhook(f"hook-{SCOPES.index(scope)}", entity=owner(scope))
        webhook = next(w for w in api.webhook_integrations(entity=owner(scope)) if w.id == hook)
        on = getattr(wa, name)(scope=looked_up(api, scope), **expression)
        action = wa.SendWebhook.from_integration(webhook, payload={"scope": scope, "type": "${event_type}"})
        made = api.create_automation(on >> action, name=scope)
        assert made.event.event_type == on.event_type
        assert made.scope.id == on.scope.id
        assert made.event.filter.filter.model_dump() == on.filter.model_dump()
        assert api.automation(scope, entity=owner(scope)) == made
        hookline.receiver.requests.clear()
        if other:
            hookline.publish(event_in(scope, published, **other))
            assert [request for request in hookline.receiver.requests if request.json["scope"] == scope] == []
        hookline.publish(event_in(scope, published, **matching))
        fired = [request.json for request in hookline.receiver.requests if request.json["scope"] == scope]
        assert fired == [{"scope": scope, "type": published}]
        api.delete_automation(made)


def _metric_filters() -> dict[str, tuple[Any, list[float], list[float]]]:
    """A filter on a metric, a series that meets it with its last value, and one that never does."""
    from tests.sdk.untyped import RunEvent

    loss = RunEvent.metric("loss")
    return {
        "below": (loss < 0.1, [0.5, 0.05], [0.5, 0.1]),
        "at most": (loss <= 0.1, [0.5, 0.1], [0.5, 0.11]),
        "above": (loss > 2, [1, 3], [1, 2]),
        "at least": (loss >= 2, [1, 2], [1, 1.9]),
        "average": (loss.avg(3) > 1, [0, 0, 4], [0, 0, 1]),
        "maximum": (loss.max(2) >= 5, [1, 5], [1, 4]),
        "minimum": (loss.min(2) < 0, [1, -1], [1, 0]),
        "named run": ((loss < 0.1) & (RunEvent.name.contains("fox")), [0.05], [0.5]),
        "rises": (loss.increases_by(diff=2), [1, 3], [1, 2]),
        "falls by half": (loss.decreases_by(frac=0.5), [4, 1], [4, 3]),
        "moves": (loss.avg(2).changes_by(diff=1), [1, 1, 5, 5], [1, 1, 1, 1]),
        "outlier": (loss.zscore(4) > 2, [1, 2, 1, 2, 50], [1, 2, 1, 2, 2]),
        "low outlier": (loss.zscore(4) < -2, [1, 2, 1, 2, -50], [1, 2, 1, 2, 1]),
        "any outlier": (loss.zscore(4).abs() > 2, [1, 2, 1, 2, -50], [1, 2, 1, 2, 1]),
    }


@pytest.mark.parametrize("scope", RUNS)
def test_metric_events(hookline: Hookline, scope: str) -> None:
    from wandb.automations import SendWebhook

    from tests.sdk.untyped import OnRunMetric

    prepare(hookline)
    api = hookline.client()
    hookline.webhook("hook", entity=owner(scope))
    webhook = next(api.webhook_integrations(entity=owner(scope)))
    watched = looked_up(api, scope)
    filters = _metric_filters()
    for name, (expression, _, _) in filters.items():
        on = OnRunMetric(scope=watched, filter=expression)
        made = api.create_automation(on >> SendWebhook.from_integration(webhook, payload={"name": name}), name=name)
        assert made.event.event_type == on.event_type
        assert made.event.filter.model_dump() == on.filter.model_dump()
        assert api.automation(name, entity=owner(scope)) == made
    for name, (_, meeting, missing) in filters.items():
        for label, series in (("missing", missing), ("meeting", meeting)):
            hookline.receiver.requests.clear()
            run = {"id": f"{label} {name}", "name": "brave-fox-1"}
            hookline.publish(
                *(event_in(scope, "RUN_METRIC", run=run, step=i, metrics={"loss": v}) for i, v in enumerate(series))
            )
            fired = {request.json["name"] for request in hookline.receiver.requests}
            assert (name in fired) is (label == "meeting"), (name, label)


@pytest.mark.parametrize("scope", RUNS)
def test_state_events(hookline: Hookline, scope: str) -> None:
    from wandb.automations import OnRunState, SendWebhook

    from tests.sdk.untyped import RunEvent

    prepare(hookline)
    api = hookline.client()
    hookline.webhook("hook", entity=owner(scope))
    webhook = next(api.webhook_integrations(entity=owner(scope)))
    filters = {
        "failed": RunEvent.state == "failed",
        "ended": RunEvent.state.in_(["finished", "failed"]),
        "a fox runs": (RunEvent.state == "running") & RunEvent.name.matches_regex("^brave-fox"),
    }
    for name, expression in filters.items():
        on = OnRunState(scope=looked_up(api, scope), filter=expression)
        made = api.create_automation(on >> SendWebhook.from_integration(webhook, payload={"name": name}), name=name)
        assert made.event.filter.model_dump() == on.filter.model_dump()
    expected = {
        "running": {"a fox runs"},
        "finished": {"ended"},
        "failed": {"failed", "ended"},
        "crashed": {"failed", "ended"},
        "killed": set(),
    }
    for state, names in expected.items():
        hookline.receiver.requests.clear()
        hookline.publish(event_in(scope, "RUN_STATE", run={"id": state, "name": "brave-fox-1"}, state=state))
        assert {request.json["name"] for request in hookline.receiver.requests} == names
