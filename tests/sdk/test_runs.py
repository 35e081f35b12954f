"""Runs of the real `wandb` client, sent straight to Hookline: from `wandb.init` to the delivery that follows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from dispatcher.publishing.event_rates import RATES_KEY
from dispatcher.publishing.publisher import Publisher, StreamFull
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.limits import MAX_BATCH_EVENTS
from shared.messaging.streams import FIELD, stream_key
from shared.settings import Settings
from tests.sdk.conftest import Hookline, Populated, open_hookline

# The client reads a field of its own that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
ENDS_WITHIN_SECONDS = 120
"""A training that goes on for longer hangs: it takes two seconds, and on a busy machine some more."""


@pytest.fixture
def hookline(settings: Settings, populated: Populated) -> Iterator[Hookline]:
    """Hookline that takes runs."""
    with open_hookline(settings.model_copy(update={"wandb_runs": True})) as running:
        running.keys |= populated.keys
        yield running


def train(
    hookline: Hookline, folder: Path, *runs: dict[str, Any], python: Path | str = sys.executable
) -> list[dict[str, Any]]:
    """What a training saw of its runs, one after another, that ran to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PYTHON"))}
    own = {
        "WANDB_BASE_URL": hookline.url,
        "WANDB_API_KEY": hookline.keys["publisher"],
        "WANDB_ERROR_REPORTING": "false",
    }
    homes = dict.fromkeys(("HOME", "WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"), str(folder))
    done = subprocess.run(
        [python, "-P", Path(__file__).with_name("training.py"), json.dumps(runs)],
        env={**kept, **own, **homes, "WANDB_SILENT": "true"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    saw: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return saw


def published(hookline: Hookline) -> list[dict[str, Any]]:
    """The events of runs that the streams have, each once, in order."""
    events: dict[str, dict[str, Any]] = {}
    with Redis.from_url(hookline.settings.stream_url) as redis:
        for partition in range(hookline.settings.partitions):
            for _, fields in redis.xrange(stream_key(partition)):
                event = json.loads(fields[FIELD])
                events.setdefault(event["id"], event)
    return list(events.values())


def told(hookline: Hookline) -> list[Any]:
    """What the events say: states, and the metrics of each step."""
    return [
        event["data"]["state"]
        if event["type"] == "RUN_STATE"
        else (event["data"].get("step"), event["data"]["metrics"])
        for event in published(hookline)
    ]


def test_a_training_fires_what_the_same_client_defined(hookline: Hookline, tmp_path: Path) -> None:
    from wandb.automations import OnRunState, SendWebhook

    from tests.sdk.untyped import OnRunMetric, RunEvent

    hookline.webhook("stop")
    hookline.webhook("tell")
    hookline.rest("PUT", "/v1/entities/acme/projects/digits", {})
    api = hookline.client()
    project = api.project("digits", entity="acme")
    stop, tell = (SendWebhook.from_integration(one) for one in api.webhook_integrations(entity="acme"))
    api.create_automation(OnRunMetric(scope=project, filter=RunEvent.metric("val.loss") > 2) >> stop, name="stop")
    api.create_automation(OnRunState(scope=project, filter=RunEvent.state == "failed") >> tell, name="tell")

    asked = {
        "init": {"project": "digits", "name": "brave-fox", "config": {"lr": 0.1, "api_key": "s"}, "tags": ["a"]},
        "log": [{"val": {"loss": number}, "n": 2**60 + number} for number in range(4)],
        "exit_code": 3,
    }
    (saw,) = train(hookline, tmp_path, asked)
    assert saw["raised"] == []
    assert told(hookline) == [
        "running",
        *((number, {"val.loss": number, "n": 2**60 + number}) for number in range(4)),
        "failed",
    ]
    running, *_, failed = published(hookline)
    run = running["data"]["run"]
    assert (running["data"]["entity"], running["data"]["project"], running["data"]["author"]) == (
        "acme",
        "digits",
        "acme/publisher",
    )
    assert (run["name"], run["tags"], run["config"]) == ("brave-fox", ["a"], {"lr": 0.1})
    assert running["data"]["heartbeat_seconds"] == 300
    assert failed["data"]["run"]["summary"] == {"val": {"loss": 3}, "n": 2**60 + 3}

    hookline.work()
    requests = {request.path: request.json for request in hookline.receiver.requests}
    assert len(hookline.receiver.requests) == 2
    assert requests["/stop"]["metric_value"] == "3"
    assert requests["/tell"]["run_state"] == "failed"


def test_a_run_goes_on_where_it_was(hookline: Hookline, tmp_path: Path) -> None:
    init = {"project": "digits", "id": "r1"}
    first, again, missing = train(
        hookline,
        tmp_path,
        {"init": {**init, "config": {"lr": 0.1}}, "log": [{"a": 1}, {"a": 2}], "do": ["setattr(run, 'name', 'x')"]},
        {"init": {**init, "resume": "must"}, "log": [{"a": 3}]},
        {"init": {**init, "id": "nope", "resume": "must"}},
    )
    assert first["resumed"] is False
    assert (again["resumed"], again["config"]) == (True, {"lr": 0.1})
    assert "has not been initialized" in missing["raised"][0]
    assert told(hookline) == ["running", (0, {"a": 1}), (1, {"a": 2}), "finished", "running", (2, {"a": 3}), "finished"]
    assert published(hookline)[-1]["data"]["run"]["name"] == "x"

    train(hookline, tmp_path, {"init": init, "log": [{"a": 9}]})
    assert told(hookline)[-3:] == ["running", (0, {"a": 9}), "finished"]


def test_an_alert_becomes_a_delivery(hookline: Hookline, tmp_path: Path) -> None:
    hookline.webhook("page")
    definition = {
        "name": "grave",
        "event": "RUN_ALERT",
        "filter": {"level": {"$in": ["WARN", "ERROR"]}, "display_name": "brave-fox"},
        "action": {"webhook": "page"},
    }
    hookline.rest("POST", "/v1/entities/acme/automations", definition, status=201)
    do = [
        "run.alert('hello', 'nothing grave')",
        "run.alert('Low accuracy', 'accuracy 0.42\\nis below 0.5', level=wandb.AlertLevel.WARN, wait_duration=600)",
        "run.alert('Diverged', 'loss is NaN', level=wandb.AlertLevel.ERROR)",
    ]
    (saw,) = train(hookline, tmp_path, {"init": {"project": "digits", "name": "brave-fox"}, "do": do})
    assert saw["raised"] == []
    alerts = [event for event in published(hookline) if event["type"] == "RUN_ALERT"]
    assert [(one["data"]["title"], one["data"]["level"]) for one in alerts] == [
        ("hello", "INFO"),
        ("Low accuracy", "WARN"),
        ("Diverged", "ERROR"),
    ]
    hookline.work()
    bodies = [request.json for request in hookline.receiver.requests]
    assert {(body["alert_title"], body["alert_text"], body["alert_level"], body["run_name"]) for body in bodies} == {
        ("Low accuracy", "accuracy 0.42\nis below 0.5", "WARN", "brave-fox"),
        ("Diverged", "loss is NaN", "ERROR", "brave-fox"),
    }


ALERT = """mutation A($input: NotifyScriptableRunAlertInput!) {
  notifyScriptableRunAlert(input: $input) { success } }"""


def test_alerts_that_are_refused(hookline: Hookline) -> None:
    upsert(hookline, entityName="acme")
    good = {"entityName": "acme", "projectName": "digits", "runName": "r1", "title": "t", "text": ""}

    def answer(key: str = "publisher", **given: Any) -> httpx.Response:
        return hookline.graphql(ALERT, {"input": {**good, **given}}, key=key)

    assert answer("member").status_code == 403
    assert answer("outsider").status_code == 404
    assert answer(runName="nope").status_code == 404
    assert "title: must be text" in answer(title=" ").text
    assert "waitDuration: must be a number" in answer(waitDuration="1h").text
    assert "AlertSeverity" in answer(severity="warn").text
    assert [event["type"] for event in published(hookline)] == ["RUN_STATE"]
    assert answer(title="x" * 600, text="y" * 5000, waitDuration=10**30).json()["data"] == {
        "notifyScriptableRunAlert": {"success": True}
    }
    data = published(hookline)[-1]["data"]
    assert (len(data["title"]), len(data["text"]), data["level"]) == (512, 4096, "INFO")


def test_what_is_not_served_ends_at_once(hookline: Hookline, tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("weights")
    do = [
        "run.log({'t': wandb.Table(columns=['a'], data=[[1]]), 'h': wandb.Histogram([1, 2]), 'a': 2})",
        "run.save('model.txt')",
        "run.log_model('model.txt', 'm')",
        "run.log_artifact('model.txt', 'm', 'model').wait()",
        "wandb.sweep({'method': 'random', 'parameters': {'a': {'values': [1]}}}, project='digits')",
    ]
    (saw,) = train(hookline, tmp_path, {"init": {"project": "digits"}, "log": [{"a": 1}], "do": do})
    kept, swept = saw["raised"]
    assert "Hookline keeps no artifacts" in kept
    assert "Hookline runs no sweeps" in swept
    assert told(hookline) == ["running", (0, {"a": 1}), (1, {"a": 2}), "finished"]


def stream(hookline: Hookline, body: object, *, key: str = "publisher", run: str = "r1") -> httpx.Response:
    """The answer to a request of a run's stream."""
    url = f"{hookline.url}/files/acme/digits/{run}/file_stream"
    return httpx.post(url, json=body, auth=("api", hookline.keys[key]), timeout=60)


def test_a_chunk_that_comes_again_fires_once(hookline: Hookline) -> None:
    hookline.webhook("hook")
    for definition in (
        {"event": "RUN_METRIC", "conditions": [{"metric": "a", "op": "$gt", "threshold": 0}]},
        {"event": "RUN_STATE", "states": ["running", "finished"]},
    ):
        body = {"name": definition["event"], "action": {"webhook": "hook"}, "cooldown": None, **definition}
        hookline.rest("POST", "/v1/entities/acme/automations", body, status=201)
    chunk = {"wandb-history.jsonl": {"offset": 0, "content": ['{"_step":0,"a":1}', '{"_step":1,"a":0}']}}
    for _ in range(2):
        assert stream(hookline, {"files": chunk}).status_code == 200
        hookline.work()
    for _ in range(2):
        assert stream(hookline, {"complete": True, "exitcode": 0}).status_code == 200
        hookline.work()
    # The run was not known: it begins with the first chunk.
    assert told(hookline) == ["running", (0, {"a": 1}), (1, {"a": 0}), "finished"]
    assert len(hookline.receiver.requests) == 3


def chunk_of(count: int) -> dict[str, Any]:
    """A request with so many lines of history."""
    content = [f'{{"_step":{step},"a":{step}}}' for step in range(count)]
    return {"files": {"wandb-history.jsonl": {"offset": 0, "content": content}}}


def test_a_chunk_that_comes_again_counts_once_against_the_quota(hookline: Hookline) -> None:
    hookline.rest("PATCH", "/v1/entities/acme", {"quotas": {"events_per_second": 1}})
    count = MAX_BATCH_EVENTS + 10  # the second batch is refused by nothing: it was begun
    assert stream(hookline, chunk_of(count)).status_code == 200
    with Redis.from_url(hookline.settings.stream_url) as redis:
        paid = redis.hgetall(RATES_KEY)
        length = sum(redis.xlen(stream_key(partition)) for partition in range(hookline.settings.partitions))
        assert length == count + 1
        assert stream(hookline, chunk_of(count)).status_code == 200
        assert redis.hgetall(RATES_KEY) == paid
        assert length == sum(redis.xlen(stream_key(partition)) for partition in range(hookline.settings.partitions))
        refused = stream(hookline, chunk_of(count + 1))
        assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
    hookline.rest("PATCH", "/v1/entities/acme", {"quotas": {"events_per_second": None}})
    assert stream(hookline, chunk_of(count + 1)).status_code == 200
    assert told(hookline) == ["running", *((step, {"a": step}) for step in range(count + 1))]


def test_a_chunk_that_was_published_in_part_goes_on_where_it_was(
    hookline: Hookline, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, batches = Publisher.append, []

    async def full_at_second(self: Publisher, events: Sequence[AnyEvent], bodies: Sequence[bytes]) -> int:
        batches.append(len(events))
        if len(batches) == 2:
            raise StreamFull("the event streams are full")
        return await append(self, events, bodies)

    monkeypatch.setattr(Publisher, "append", full_at_second)
    count = 2 * MAX_BATCH_EVENTS
    assert stream(hookline, chunk_of(count)).status_code == 503
    assert stream(hookline, chunk_of(count)).status_code == 200
    # That it runs and all lines but one, then that it runs and the other lines.
    assert batches == [MAX_BATCH_EVENTS, MAX_BATCH_EVENTS, MAX_BATCH_EVENTS, 2]
    assert told(hookline) == ["running", *((step, {"a": step}) for step in range(count))]


@pytest.mark.parametrize("field", ["createArtifact", "upsertSweep", "rewindRun"])
def test_why_something_is_not_served(hookline: Hookline, field: str) -> None:
    answer = hookline.graphql(f"mutation M($input: Some!) {{ {field}(input: $input) {{ success }} }}", {"input": {}})
    assert answer.status_code == 400
    assert "Hookline" in answer.json()["errors"][0]["message"]


UPSERT = "mutation U($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id name } inserted } }"
FILES = """mutation F($input: CreateRunFilesInput!) {
  createRunFiles(input: $input) { uploadHeaders files { name uploadUrl } } }"""


def upsert(hookline: Hookline, key: str = "publisher", **given: Any) -> httpx.Response:
    """The answer to `upsertBucket`."""
    return hookline.graphql(UPSERT, {"input": {"name": "r1", "modelName": "digits", **given}}, key=key)


def test_who_may_send_runs(hookline: Hookline) -> None:
    assert upsert(hookline, entityName="acme").status_code == 200
    assert upsert(hookline).json()["data"]["upsertBucket"]["inserted"] is False  # the only entity of this key
    assert upsert(hookline, "member", entityName="acme").status_code == 403
    assert upsert(hookline, "outsider", entityName="acme").status_code == 404
    assert stream(hookline, {}, key="member").status_code == 403
    assert stream(hookline, {}, key="outsider").status_code == 404
    hookline.keys["wrong"] = "x" * 40
    assert stream(hookline, {}, key="wrong").status_code == 401
    several = upsert(hookline, "root")
    assert several.status_code == 400
    assert "WANDB_ENTITY" in several.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "a/b"}, "name: must be a name of 1 to 512 characters"),
        ({"modelName": "a\nb"}, "modelName: must be a name"),
        ({"config": "[]"}, "config: must be a JSON object"),
    ],
)
def test_a_run_that_can_not_be(hookline: Hookline, given: dict[str, Any], message: str) -> None:
    answer = upsert(hookline, entityName="acme", **given)
    assert answer.status_code == 400
    assert message in answer.text
    assert published(hookline) == []


def status_of_length(hookline: Hookline, method: str, path: str, length: int) -> int:
    """What a body of this length is answered with, before it comes."""
    connection = HTTPConnection(hookline.url.removeprefix("http://"), timeout=60)
    connection.putrequest(method, path)
    connection.putheader("Authorization", f"Bearer {hookline.keys['publisher']}")
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_streams_and_uploads_are_bounded(hookline: Hookline) -> None:
    files = {"entityName": "acme", "projectName": "digits", "runName": "r1", "files": ["a b.txt"]}
    made = hookline.graphql(FILES, {"input": files}, key="publisher").json()["data"]["createRunFiles"]
    name, _, token = made["uploadHeaders"][0].partition(":")
    url = made["files"][0]["uploadUrl"]
    assert url.startswith(f"{hookline.url}/files/uploads")
    assert httpx.put(url, content=iter([b"x" * 65_536] * 64), headers={name: token}, timeout=60).status_code == 200
    assert httpx.put(url, content=b"x", headers={name: "x"}, timeout=60).status_code == 403
    assert httpx.put(url, content=b"x", timeout=60).status_code == 403
    assert status_of_length(hookline, "PUT", "/files/uploads", 6 << 30) == 413
    assert hookline.graphql(FILES, {"input": files}, key="member").status_code == 403
    assert stream(hookline, {"files": 7}).status_code == 422
    assert stream(hookline, {}, run="a%2Fb").status_code == 422  # nor does upsertBucket begin such a run
    assert status_of_length(hookline, "POST", "/files/acme/digits/r1/file_stream", 33 << 20) == 413
    assert published(hookline) == []


def test_off_is_as_before(settings: Settings, populated: Populated) -> None:
    with open_hookline(settings) as hookline:
        hookline.keys |= populated.keys
        refused = upsert(hookline, entityName="acme")
        assert refused.status_code == 400
        assert "Unknown type 'UpsertBucketInput'" in refused.json()["errors"][0]["message"]
        assert stream(hookline, {}).status_code == 404
        assert httpx.put(f"{hookline.url}/files/uploads", content=b"x", timeout=60).status_code == 404
