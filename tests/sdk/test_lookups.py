"""What the client looks up: who asks, projects, registries, collections, teams, organizations."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdk.conftest import Hookline
from tests.sdk.scopes import COLLECTION, prepare

# The client reads a field of its own that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


@pytest.fixture
def api(hookline: Hookline) -> Any:
    """An administrator's client, on the scopes of this folder."""
    prepare(hookline)
    return hookline.client()


def test_viewer(hookline: Hookline, api: Any) -> None:
    assert api.default_entity == "acme"
    assert (api.viewer.username, api.viewer.entity, api.viewer.admin) == ("alice", "acme", False)
    assert api.viewer.teams == ["acme"]
    root = hookline.client("root")
    assert (root.viewer.username, root.viewer.admin, root.default_entity) == ("admin", True, "acme")
    assert hookline.client("publisher").default_entity is None


def test_projects(hookline: Hookline, api: Any) -> None:
    assert [project.name for project in api.projects("acme")] == ["training"]
    project = api.project("training", entity="acme")
    assert (project.entity, project.is_benchmark) == ("acme", False)
    for number in range(3):
        api.create_project(f"p{number}", entity="acme")
    api.create_project("p0", entity="acme")  # again, as the client's own script may do
    anew = hookline.client()  # a client remembers its listings
    assert [p.name for p in anew.projects("acme", per_page=1)] == ["training", "p0", "p1", "p2"]


def test_registries(hookline: Hookline, api: Any) -> None:
    made = api.create_registry("data", visibility="organization", organization="corp", description="sets")
    assert (made.full_name, made.entity, made.organization, made.description) == (
        "wandb-registry-data",
        "corp",
        "corp",
        "sets",
    )
    found = api.registry("data", organization="corp")
    assert (found.id, found.visibility, found.allow_all_artifact_types) == (made.id, "organization", True)
    found.description = "data sets"
    found.save()
    assert api.registry("data").description == "data sets"  # the organization of the default entity
    hookline.rest("PUT", "/v1/entities/corp/projects/plain", {})
    assert [each.name for each in api.registries(organization="corp")] == ["model", "data"]
    assert [each.name for each in api.registries(organization="corp", order="name")] == ["data", "model"]
    assert [each.name for each in api.registries(organization="corp", filter={"name": "data"})] == ["data"]
    assert [each.name for each in api.registries(organization="corp", filter={"name": {"$regex": "del$"}})] == ["model"]
    assert list(api.registry("model").artifact_types) == ["model"]
    with pytest.raises(ValueError, match="Registry 'data' already exists"):
        api.create_registry("data", visibility="organization", organization="corp")
    for more in ({"visibility": "restricted"}, {"visibility": "organization", "artifact_types": ["model"]}):
        with pytest.raises(ValueError, match="Failed to create registry 'x'"):
            api.create_registry("x", organization="corp", **more)


def test_a_missing_registry_or_organization(api: Any) -> None:
    from wandb.errors import CommError

    with pytest.raises(ValueError, match="Failed to load registry 'ghost' in organization 'corp'"):
        api.registry("ghost", organization="corp")
    for name in ("ghost", "other", "acme"):
        with pytest.raises(CommError, match=f"Organization '{name}' not found"):
            api.organization(name)


def test_collections(hookline: Hookline, api: Any) -> None:
    from wandb.errors import CommError

    for number in range(5):
        hookline.collection("wandb-registry-model", f"c{number}", entity="corp")
    hookline.collection("wandb-registry-data", "sets", entity="corp", type_="dataset")
    registry = api.registry("model", organization="corp")
    names = [COLLECTION, "c0", "c1", "c2", "c3", "c4"]
    for per_page in (1, 4, 100):
        assert [each.name for each in registry.collections(per_page=per_page)] == names
        ordered = [each.name for each in registry.collections(order="-name", per_page=per_page)]
        assert ordered == sorted(names, reverse=True)
    assert len(registry.collections()) == 6
    (one,) = registry.collections(filter={"name": {"$in": ["c3", "sets"]}})
    assert (one.name, one.project, one.entity, one.type, one.is_sequence()) == (
        "c3",
        "wandb-registry-model",
        "corp",
        "model",
        False,
    )
    assert [each.name for each in api.registries("corp").collections(filter={"name": "sets"})] == ["sets"]
    listing = registry.collections(order="name", per_page=2)
    head = [next(listing).name for _ in range(2)]
    assert head + [c.name for c in registry.collections(order="name", start=listing.cursor)] == sorted(names)
    assert api.artifact_collection("model", f"acme/training/{COLLECTION}").is_sequence()
    with pytest.raises(CommError, match="Could not find artifact type 'dataset'"):
        api.artifact_collection("dataset", f"acme/training/{COLLECTION}")
    with pytest.raises(Exception, match=r"filters\.tag: is not a field here; accepted: artifact_collection_id"):
        list(registry.collections(filter={"tag": "x"}))


def test_team(api: Any) -> None:
    team = api.team("acme")
    assert (team.name, team.entity_type, team.is_team, team.members) == ("acme", "team", True, [])
    with pytest.raises(Exception, match="there is no entity 'ghost'"):
        api.team("ghost").id  # noqa: B018


def test_a_webhook_made_by_the_client_s_own_document(hookline: Hookline) -> None:
    from wandb.automations._generated import CREATE_GENERIC_WEBHOOK_INTEGRATION_GQL

    hookline.secret("TOKEN", "tok-1")
    hookline.secret("SIGNING", "whsec_c2lnbmluZy1rZXktb2YtMjQtYnl0ZXMh")
    given = {
        "entityName": "acme",
        "name": "made here",
        "urlEndpoint": f"{hookline.receiver.url}/x",
        "accessTokenRef": "TOKEN",
        "secretRef": "SIGNING",
    }
    answer = hookline.graphql(CREATE_GENERIC_WEBHOOK_INTEGRATION_GQL, {"input": given})
    assert answer.status_code == 200, answer.text
    node = answer.json()["data"]["result"]["integration"]
    assert node == {
        "__typename": "GenericWebhookIntegration",
        "id": "wh_1",
        "name": "made here",
        "urlEndpoint": given["urlEndpoint"],
    }
    stored = hookline.rest("GET", "/v1/entities/acme/webhooks/wh_1")
    assert (stored["access_token"], stored["signing_secret"], stored["secrets"]) == ("TOKEN", "SIGNING", ["SIGNING"])
    for change, status, told in (
        ({}, 409, "'acme' has a webhook 'made here' already"),
        ({"name": "a/b"}, 400, "name: must be 1 to 64"),
        ({"name": "b", "urlEndpoint": "ftp://x"}, 400, "url: must"),
        ({"name": "b", "secretRef": "NOPE"}, 400, "signing_secret"),
    ):
        answer = hookline.graphql(CREATE_GENERIC_WEBHOOK_INTEGRATION_GQL, {"input": {**given, **change}})
        assert (answer.status_code, told in answer.json()["errors"][0]["message"]) == (status, True), answer.text
    answer = hookline.graphql(CREATE_GENERIC_WEBHOOK_INTEGRATION_GQL, {"input": given}, key="member")
    assert answer.status_code == 403


def test_more_webhooks_than_a_page(hookline: Hookline, api: Any) -> None:
    names = [f"hook-{number}" for number in range(12)]
    for name in names:
        hookline.webhook(name)
    hookline.secret("SLACK_URL", f"{hookline.receiver.url}/services/T1/B2/x")
    for number in range(3):
        body = {"name": f"slack-{number}", "url_secret": "SLACK_URL", "team": "corp-ws", "channel": f"#{number}"}
        hookline.rest("POST", "/v1/entities/acme/slack", body, status=201)
    for per_page in (1, 5, 50):
        assert [w.name for w in api.webhook_integrations(entity="acme", per_page=per_page)] == names
        slack = api.slack_integrations(entity="acme", per_page=per_page)
        assert [integration.channel_name for integration in slack] == ["#0", "#1", "#2"]
        assert len(list(api.integrations(entity="acme", per_page=per_page))) == 15
    assert list(api.webhook_integrations(entity="corp")) == []
