"""What each service's requests become: checked as events of a publisher are, and of the source's own entity."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.events.decoding import check_published
from shared.domain.json_text import read_json
from shared.domain.sources.model import InboundRequest, NotUnderstood, Source, SourceKind
from shared.domain.sources.reading import Outcome, json_of, read_request
from tests.unit.domain.sources.requests import (
    COMMIT,
    REGISTERED,
    ZEROS,
    azure_event,
    github_push,
    github_release,
    gitlab_release,
    gitlab_tag,
    hub_body,
    mlflow_body,
    mlflow_headers,
    request,
    source,
)


def outcome(of: Source, body: object, headers: dict[str, str] | None = None) -> Outcome:
    inbound = request(body, headers)
    found = read_request(of, "src_1", inbound, read_json(json_of(inbound)))
    if found.events:
        check_published(found.events)
    return found


def events(of: Source, body: object, headers: dict[str, str] | None = None) -> list[tuple[str, dict[str, Any]]]:
    found = outcome(of, body, headers).events
    assert all(event["data"]["entity"] == "acme" for event in found)
    assert {event["source"] for event in found} <= {"/in/src_1"}
    return [(event["type"], event["data"]) for event in found]


def mlflow(what: str, **data: Any) -> list[tuple[str, dict[str, Any]]]:
    body = mlflow_body(what, **data)
    return events(source("mlflow"), body, mlflow_headers(json.dumps(body).encode()))


def test_a_version_in_mlflow_is_created_and_linked() -> None:
    found = mlflow(
        "model_version.created",
        name="churn",
        version="3",
        source="models:/m-1",
        run_id="abc",
        tags={"stage": "candidate", "mlflow.user": "alice"},
        description=None,
    )
    assert [kind for kind, _ in found] == ["CREATE_ARTIFACT", "LINK_ARTIFACT"]
    assert found[0][1] == {
        "entity": "acme",
        "project": "wandb-registry-model",
        "collection": {"name": "churn", "type": "model"},
        "artifact": {
            "id": "models:/churn/3",
            "version": "v3",
            "tags": ["stage:candidate"],
            "metadata": {"stage": "candidate", "run_id": "abc", "source": "models:/m-1"},
        },
    }


@pytest.mark.parametrize(
    ("what", "data", "kind", "said"),
    [
        ("model_version_alias.created", {"alias": "prod", "version": "3"}, "ADD_ARTIFACT_ALIAS", {"alias": "prod"}),
        ("model_version_alias.deleted", {"alias": "prod"}, "REMOVE_ARTIFACT_ALIAS", {"alias": "prod"}),
        ("model_version_tag.set", {"version": "3", "key": "ok", "value": "yes"}, "ADD_ARTIFACT_TAG", {"tag": "ok:yes"}),
        ("model_version_tag.deleted", {"version": "3", "key": "ok"}, "REMOVE_ARTIFACT_TAG", {"tag": "ok"}),
        ("prompt_alias.created", {"alias": "prod", "version": "3"}, "ADD_ARTIFACT_ALIAS", {"alias": "prod"}),
        ("prompt_tag.set", {"key": "lang", "value": "en"}, "ADD_COLLECTION_TAG", {"tag": "lang:en"}),
        ("prompt_tag.deleted", {"key": "lang"}, "REMOVE_COLLECTION_TAG", {"tag": "lang"}),
    ],
)
def test_mlflows_aliases_and_tags(what: str, data: dict[str, str], kind: str, said: dict[str, str]) -> None:
    ((found, told),) = mlflow(what, name="churn", **data)
    assert found == kind
    assert told | said == told
    assert told["collection"] == {"name": "churn", "type": "prompt" if what.startswith("prompt") else "model"}


def test_what_mlflow_says_of_no_version_is_ignored_with_a_reason() -> None:
    for what in ("registered_model.created", "budget_policy.exceeded", "model_version.archived"):
        found = outcome(source("mlflow"), mlflow_body(what, name="churn"), mlflow_headers(b""))
        assert (found.events, len(found.ignored)) == ((), 1)
        assert what in found.ignored[0]


def test_the_id_of_an_mlflow_event_is_the_deliverys() -> None:
    body = mlflow_body("model_version.created", name="churn", version="3")
    first = outcome(source("mlflow"), body, mlflow_headers(b"", delivery="d-1")).events
    again = outcome(source("mlflow"), body, mlflow_headers(b"", delivery="d-1")).events
    another = outcome(source("mlflow"), body, mlflow_headers(b"", delivery="d-2")).events
    assert [one["id"] for one in first] == [one["id"] for one in again] == ["d-1/CREATE_ARTIFACT", "d-1/LINK_ARTIFACT"]
    assert not {one["id"] for one in another} & {one["id"] for one in first}


@pytest.mark.parametrize(
    ("tag", "kinds", "said"),
    [
        ("churn@v1.2.3", ["CREATE_ARTIFACT", "LINK_ARTIFACT"], {}),
        ("churn@v1.2.3-rc.1", ["CREATE_ARTIFACT", "LINK_ARTIFACT"], {}),
        ("churn@v1.2.3!", ["UNLINK_ARTIFACT"], {}),
        ("churn#prod", ["ADD_ARTIFACT_ALIAS"], {"alias": "prod"}),
        ("churn#prod#3", ["ADD_ARTIFACT_ALIAS"], {"alias": "prod"}),
        ("churn#prod!#4", ["REMOVE_ARTIFACT_ALIAS"], {"alias": "prod"}),
        ("churn@deprecated", ["ADD_COLLECTION_TAG"], {"tag": "deprecated"}),
        ("churn@created", [], {}),
        ("v1.2.3", [], {}),
        ("churn@1.2.3", [], {}),
        ("Churn@v1.2.3", [], {}),
    ],
)
def test_gtos_tags_on_github_and_gitlab(tag: str, kinds: list[str], said: dict[str, str]) -> None:
    hub = events(source("github"), github_push(f"refs/tags/{tag}"), {"x-github-event": "push"})
    lab = events(source("gitlab"), gitlab_tag(tag), {"x-gitlab-event": "Tag Push Hook"})
    assert [kind for kind, _ in hub] == [kind for kind, _ in lab] == kinds
    for _, told in [*hub, *lab]:
        assert told | said == told
        assert told["collection"] == {"name": "churn", "type": "model"}
        assert told["author"] == "alice"


def test_a_version_and_its_stage_are_of_one_artifact() -> None:
    hub, headers = source("github"), {"x-github-event": "push"}
    version = events(hub, github_push("refs/tags/sub/dir=churn@v1.2.3"), headers)[0][1]
    stage = events(hub, github_push("refs/tags/sub/dir=churn#prod"), headers)[0][1]
    assert version["collection"]["name"] == stage["collection"]["name"] == "sub/dir:churn"
    assert version["artifact"]["id"] == stage["artifact"]["id"] == f"acme/models/sub/dir:churn@{COMMIT}"
    assert (version["artifact"]["version"], stage["artifact"]["aliases"]) == ("v1.2.3", ["prod"])
    assert version["artifact"]["metadata"]["message"] == "Train longer"


def test_releases_of_other_tags_are_versions_of_the_repositorys_collection() -> None:
    hub = events(source("github"), github_release("v1.2"), {"x-github-event": "release"})
    lab = events(source("gitlab"), gitlab_release("v1.2"))
    for found in (hub, lab):
        assert [kind for kind, _ in found] == ["CREATE_ARTIFACT", "LINK_ARTIFACT"]
        assert found[0][1]["collection"] == {"name": "models", "type": "model"}
        assert found[0][1]["artifact"]["version"] == "v1.2"


@pytest.mark.parametrize(
    ("event", "body", "why"),
    [
        ("ping", {"zen": "Design for failure.", "hook_id": 1}, "ping"),
        ("create", {"ref": "churn@v1.0.0", "ref_type": "tag"}, "pushes"),
        ("issues", {"action": "opened"}, "issues"),
        ("push", github_push("refs/heads/main"), "branch"),
        ("push", github_push(deleted=True, after=ZEROS), "deleted"),
        ("release", github_release("v1", "edited"), "edited"),
        ("release", github_release("churn@v1.0.0"), "model's tag"),
    ],
)
def test_what_is_no_event_on_github_says_why(event: str, body: dict[str, Any], why: str) -> None:
    found = outcome(source("github"), body, {"x-github-event": event})
    assert found.events == ()
    assert why in found.ignored[0]


def test_what_is_no_event_on_gitlab_says_why() -> None:
    for body, why in (
        (gitlab_tag("churn@v1.0.0", after=ZEROS), "deleted"),
        (gitlab_release("v1", "update"), "update"),
        (gitlab_tag("x") | {"object_kind": "push"}, "push"),
    ):
        found = outcome(source("gitlab"), body)
        assert found.events == ()
        assert why in found.ignored[0]


def test_githubs_form_is_read_as_its_json() -> None:
    body = urlencode({"payload": json.dumps(github_push())}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded", "x-github-event": "push"}
    assert [kind for kind, _ in events(source("github"), body, headers)] == ["CREATE_ARTIFACT", "LINK_ARTIFACT"]


def test_the_hubs_commits_and_tags() -> None:
    hub = source("hugging-face")
    found = events(hub, hub_body(("refs/heads/main", ZEROS, COMMIT), ("refs/tags/prod", None, COMMIT)))
    assert [kind for kind, _ in found] == ["CREATE_ARTIFACT", "LINK_ARTIFACT", "ADD_ARTIFACT_ALIAS"]
    assert found[0][1]["collection"] == {"name": "acme/churn", "type": "model"}
    assert found[0][1]["artifact"] | {"id": f"acme/churn@{COMMIT}", "version": COMMIT} == found[0][1]["artifact"]
    assert found[2][1]["alias"] == "prod"
    assert [kind for kind, _ in events(hub, hub_body(("refs/tags/prod", COMMIT, None)))] == ["REMOVE_ARTIFACT_ALIAS"]


def test_what_is_no_event_on_the_hub_says_why() -> None:
    for body, why in (
        (hub_body(("refs/pr/3", None, COMMIT)), "pull requests"),
        (hub_body(scope="repo.config"), "repo.config"),
        (hub_body(scope="discussion"), "discussion"),
        (hub_body(), "no reference"),
    ):
        found = outcome(source("hugging-face"), body)
        assert found.events == ()
        assert why in found.ignored[0]


@pytest.mark.parametrize("cloud", [True, False])
def test_azures_models_in_both_schemas(cloud: bool) -> None:
    grid = source("event-grid")
    (kind, told), (linked, _) = events(grid, [azure_event("ModelRegistered", REGISTERED, cloud=cloud)])
    assert (kind, linked) == ("CREATE_ARTIFACT", "LINK_ARTIFACT")
    assert told["artifact"] == {
        "id": "churn:20",
        "version": "v20",
        "tags": ["area:sales", "type:regression"],
        "metadata": {"val_accuracy": "0.93", "area": "sales", "type": "regression"},
    }
    deployed = {"ServiceName": "svc", "ModelIds": "churn:1,churn:2", "ServiceTags": {}}
    found = events(grid, [azure_event("ModelDeployed", deployed, cloud=cloud)])
    assert [(kind, told["artifact"]["id"], told["tag"]) for kind, told in found] == [
        ("ADD_ARTIFACT_TAG", "churn:1", "deployed:svc"),
        ("ADD_ARTIFACT_TAG", "churn:2", "deployed:svc"),
    ]


def test_a_deployment_of_many_models_names_each_whole() -> None:
    models = [f"{'m' * 100}-{number}:{number}" for number in range(20)]
    deployed = {"ServiceName": "svc", "ModelIds": ",".join(models), "ServiceTags": {}}
    found = events(source("event-grid"), [azure_event("ModelDeployed", deployed)])
    assert [told["artifact"]["id"] for _, told in found] == models


@pytest.mark.parametrize("cloud", [True, False])
def test_an_event_of_azures_without_an_id_is_refused(cloud: bool) -> None:
    with pytest.raises(NotUnderstood, match="id"):
        events(source("event-grid"), [azure_event("ModelRegistered", REGISTERED, cloud=cloud, id="")])


@pytest.mark.parametrize(
    ("name", "status", "state"),
    [
        ("RunCompleted", None, "finished"),
        ("RunStatusChanged", "Running", "running"),
        ("RunStatusChanged", "Failed", "failed"),
        ("RunStatusChanged", "Canceled", "killed"),
        ("RunStatusChanged", "NotResponding", "crashed"),
        ("RunStatusChanged", "Queued", None),
        ("RunStatusChanged", "Completed", None),
    ],
)
def test_azures_jobs(name: str, status: str | None, state: str | None) -> None:
    job = {"experimentName": "churn-exp", "runId": "r1", "runType": "azureml.command", "runTags": {"lr": "0.1"}}
    body = azure_event(name, job | ({"runStatus": status} if status else {}))
    found = events(source("event-grid"), body)
    assert [(kind, told["state"], told["project"]) for kind, told in found] == (
        [("RUN_STATE", state, "churn-exp")] if state else []
    )


def test_event_grids_handshake_is_answered() -> None:
    validation = {
        "id": "1",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6-c7b8", "validationUrl": "https://example.com/validate"},
    }
    found = outcome(source("event-grid"), [validation])
    assert found.answer == {"validationResponse": "512d38b6-c7b8"}
    assert found.events == ()


def test_event_grids_redelivery_has_the_same_ids_also_in_another_batch() -> None:
    one, two = (azure_event("ModelRegistered", REGISTERED, id=name) for name in ("one", "two"))
    ids = [event["id"] for event in outcome(source("event-grid"), [one]).events]
    both = [event["id"] for event in outcome(source("event-grid"), [two, one]).events]
    assert both[2:] == ids
    assert not set(both[:2]) & set(ids)


@pytest.mark.parametrize("kind", [kind for kind in SourceKind if kind is not SourceKind.GENERIC])
@pytest.mark.parametrize("body", [None, [], {}, 1, "x", [1], {"event": 1}, {"entity": "a", "action": "b", "data": []}])
def test_what_a_service_does_not_send_is_not_understood(kind: SourceKind, body: object) -> None:
    with pytest.raises(NotUnderstood):
        outcome(source(str(kind)), body)


_BODIES = [
    ("mlflow", mlflow_body("model_version.created", name="churn", version="3", tags={"a": "b"}), {}),
    ("mlflow", mlflow_body("model_version_alias.created", name="churn", version="3", alias="x"), {}),
    ("github", github_push(), {"x-github-event": "push"}),
    ("github", github_release("v1"), {"x-github-event": "release"}),
    ("gitlab", gitlab_tag("churn#prod"), {}),
    ("hugging-face", hub_body(("refs/heads/main", None, COMMIT), ("refs/tags/x", None, COMMIT)), {}),
    ("event-grid", azure_event("ModelRegistered", REGISTERED), {}),
    ("event-grid", azure_event("RunCompleted", {"runId": "r", "experimentName": "e"}), {}),
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, member in members for found in _paths(member, (*path, key)))]


def _with(value: Any, path: tuple[Any, ...], new: object) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(copy[path[0]], path[1:], new)
    return copy


@given(data=st.data(), of=st.sampled_from(_BODIES))
def test_whatever_a_member_is_the_entity_stays_and_nothing_breaks(data: st.DataObject, of: tuple[Any, ...]) -> None:
    kind, body, headers = of
    damaged = _with(body, data.draw(st.sampled_from(_paths(body))), data.draw(_JSON))
    inbound = InboundRequest(headers, {}, b"")
    try:
        found = read_request(source(kind), "src_1", inbound, damaged)
        again = read_request(source(kind), "src_1", inbound, damaged)
    except NotUnderstood:
        return
    assert [one["id"] for one in found.events] == [one["id"] for one in again.events]
    assert len({one["id"] for one in found.events}) == len(found.events)
    assert all(event["data"]["entity"] == "acme" for event in found.events)
    assert found.events or found.ignored
