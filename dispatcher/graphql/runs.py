"""The `wandb` client's runs: begun and changed here, while what they log comes by their streams.

The documents are those of https://github.com/wandb/wandb, `core/api/graphql`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from ariadne import MutationType, ObjectType, QueryType
from graphql import DocumentNode, FieldNode, OperationDefinitionNode

from dispatcher.api.bodies import RUN_UPLOADS
from dispatcher.control.access import Action, require
from dispatcher.control.errors import NotFound
from dispatcher.graphql import opaque_ids
from dispatcher.graphql.nodes import ProjectNode
from dispatcher.graphql.session import Info, Session
from dispatcher.wandb_runs.configs import client_config
from dispatcher.wandb_runs.events import DEFAULT_WAIT, RunEvents
from dispatcher.wandb_runs.runs import publishable_entity, upsert
from dispatcher.wandb_runs.uploads import HEADER, upload_token
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import AlertLevel, RunPhase
from shared.domain.json_text import write_json
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.wandb_runs import StoredRun, find_run, wandb_run_key

_NO_ARTIFACTS = (
    "Hookline keeps no artifacts: publish CREATE_ARTIFACT, or another event, instead (docs/sources/wandb.md); "
    "the run goes on"
)
_NO_SWEEPS = "Hookline runs no sweeps and no jobs (docs/sources/wandb.md)"
_NOT_SERVED = {
    **dict.fromkeys(("createArtifact", "createArtifactManifest", "useArtifact", "linkArtifact"), _NO_ARTIFACTS),
    **dict.fromkeys(("artifact", "clientIDMapping", "updateArtifact", "artifactSharedFiles"), _NO_ARTIFACTS),
    **dict.fromkeys(("upsertSweep", "createAgent", "agentHeartbeat", "createRunQueue", "pushToRunQueue"), _NO_SWEEPS),
    "rewindRun": "Hookline keeps no history of a run to rewind to (docs/sources/wandb.md)",
}
"""What a training may ask for and Hookline does not do, by the operation's first field."""
MAX_WAIT = timedelta(days=30)
MAX_FILES = 10_000
MAX_FILE_NAME = 4096

query = QueryType()
mutation = MutationType()
project = ObjectType("Project")
run_project = ObjectType("RunProject")
run = ObjectType("Run")
organization = ObjectType("Organization")


@dataclass(frozen=True, slots=True)
class RunProjectNode:
    """A project as the place of runs."""

    entity: StoredEntity
    name: str


@dataclass(frozen=True, slots=True)
class RunNode:
    """A run; `id` is what stands for it in this answer."""

    entity: StoredEntity
    stored: StoredRun
    id: str


@query.field("model")
def resolve_model(
    _root: Any, info: Info, *, name: str | None = None, entity_name: str | None = None
) -> RunProjectNode | None:
    """A project of an entity to which the key may publish. Raises as `access.require`."""
    session = info.context
    owner = publishable_entity(session.connection, session.principal, entity_name)
    return None if name is None else RunProjectNode(owner, name)


@mutation.field("upsertBucket")
def resolve_upsert(_root: Any, info: Info, *, input: dict[str, Any]) -> dict[str, Any]:
    """Begin a run, go on with it, or change what is said of it; as long as it runs, it says so."""
    session = info.context
    starts = opaque_ids.read_starts(input["id"]) if input.get("id") else None
    heartbeat = session.checks.settings.wandb_heartbeat
    begun = upsert(session.connection, session.principal, input, starts=starts, heartbeat=heartbeat)
    if begun.run.state is RunPhase.RUNNING:
        events = RunEvents(begun.entity.name, session.principal.user_name, begun.run)
        session.events.append(events.running(heartbeat, datetime.now(UTC)))
    plain_id = opaque_ids.run_id(begun.entity.name, begun.run.project, begun.run.run)
    return {"bucket": RunNode(begun.entity, begun.run, plain_id), "inserted": begun.is_new}


@mutation.field("createRunFiles")
def resolve_create_files(_root: Any, info: Info, *, input: dict[str, Any]) -> dict[str, Any]:
    """Where to send files: all to one URL, which drops them."""
    session, names = info.context, input["files"]
    owner = require(session.connection, session.principal, input["entity_name"], Action.PUBLISH)
    if len(names) > MAX_FILES or any(len(name) > MAX_FILE_NAME for name in names):
        msg = f"must be at most {MAX_FILES} names of at most {MAX_FILE_NAME} characters"
        raise InvalidDefinition.at(("files",), msg)
    token = upload_token(session.checks.vault, session.principal.user_id, datetime.now(UTC))
    url = f"{session.base_url}{RUN_UPLOADS}"
    return {
        "run_id": opaque_ids.run_id(owner.name, input["project_name"], input["run_name"]),
        "upload_headers": [f"{HEADER}:{token}"],
        "files": [{"name": name, "upload_url": f"{url}?file={quote(name, safe='')}"} for name in names],
    }


@mutation.field("markRunFilesUploaded")
def resolve_mark_uploaded(_root: Any, info: Info, *, input: dict[str, Any]) -> dict[str, bool]:
    """That files were sent, of which nothing is kept."""
    require(info.context.connection, info.context.principal, input["entity_name"], Action.PUBLISH)
    return {"success": True}


@mutation.field("notifyScriptableRunAlert")
def resolve_alert(_root: Any, info: Info, *, input: dict[str, Any]) -> dict[str, bool]:
    """An alert of a run becomes an event. Raises as `access.require`, NotFound, and InvalidDefinition."""
    session = info.context
    owner = require(session.connection, session.principal, input["entity_name"], Action.PUBLISH)
    stored = find_run(session.connection, wandb_run_key(owner.name, input["project_name"], input["run_name"]))
    if stored is None:
        raise NotFound(f"there is no run {input['run_name']!r}, or it was forgotten: start it anew")
    level = AlertLevel(input.get("severity") or AlertLevel.INFO)
    events = RunEvents(owner.name, session.principal.user_name, stored)
    wait = _wait(input.get("wait_duration"))
    session.events.append(events.alert(input["title"], input["text"], level, datetime.now(UTC), wait))
    return {"success": True}


def _wait(milliseconds: object) -> timedelta:
    """How long a title says nothing new, as the client sends it."""
    if milliseconds is None:
        return DEFAULT_WAIT
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float) or not milliseconds >= 0:
        raise InvalidDefinition.at(("waitDuration",), "must be a number of milliseconds from 0")
    return timedelta(milliseconds=min(milliseconds, MAX_WAIT.total_seconds() * 1000))


@run_project.field("id")
def resolve_project_id(node: RunProjectNode, _info: Info) -> str:
    """The id that the project has everywhere."""
    return opaque_ids.project_id(node.entity.name, node.name)


@run_project.field("entity")
def resolve_project_entity(node: RunProjectNode, _info: Info) -> dict[str, str]:
    """The owner."""
    return {"id": opaque_ids.entity_id(node.entity.name), "name": node.entity.name}


@run_project.field("bucket")
def resolve_bucket(node: RunProjectNode, info: Info, *, name: str, missing_ok: bool | None = None) -> RunNode | None:
    """A run, with an id to start it again; null when there is none."""
    return _found(info.context, node.entity, node.name, name)


@run_project.field("run")
@project.field("run")
def resolve_run(node: RunProjectNode | ProjectNode, info: Info, *, name: str) -> RunNode | None:
    """A run; null when there is none."""
    return _found(info.context, node.entity, node.name, name)


def _found(session: Session, entity: StoredEntity, project_name: str, name: str) -> RunNode | None:
    stored = find_run(session.connection, wandb_run_key(entity.name, project_name, name))
    if stored is None:
        return None
    return RunNode(entity, stored, opaque_ids.run_id(entity.name, stored.project, stored.run, stored.starts))


@run.field("historyTail")
def resolve_history_tail(node: RunNode, _info: Info) -> str:
    """The last line, as far as it matters to go on: step and running time."""
    if node.stored.last_step is None:
        return "[]"
    line = {"_step": node.stored.last_step, "_runtime": node.stored.summary.get("_runtime", 0)}
    return write_json([write_json(line).decode()]).decode()


@run.field("wandbConfig")
def resolve_wandb_config(_node: RunNode, _info: Info, *, keys: list[str] | None = None) -> str:
    """That the run was started: the client takes one without `t` for one that never was."""
    return '{"t": {}}'


def _about(name: str) -> Any:
    return lambda node, _info: node.stored.about.get(name)


for _field in ("notes", "tags", "group", "host"):
    run.set_field(_field, _about(_field))
run.set_field("jobType", _about("job_type"))
run.set_field("sweepName", _about("sweep"))
run.set_field("name", lambda node, _info: node.stored.run)
run.set_field("displayName", lambda node, _info: node.stored.display_name)
run.set_field("description", lambda _node, _info: None)
run.set_field("state", lambda node, _info: str(node.stored.state))
run.set_field("stopped", lambda _node, _info: False)
run.set_field("config", lambda node, _info: client_config(node.stored.about.get("config") or {}))
run.set_field("summaryMetrics", lambda node, _info: write_json(node.stored.summary).decode())
# Not 0 where there is a last line: the client would give its step once more.
run.set_field(
    "historyLineCount", lambda node, _info: max(node.stored.history_lines, int(node.stored.last_step is not None))
)
run.set_field("eventsTail", lambda _node, _info: "[]")
run.set_field("eventsLineCount", lambda _node, _info: 0)
run.set_field("logLineCount", lambda _node, _info: 0)
run.set_field("project", lambda node, _info: RunProjectNode(node.entity, node.stored.project))
run_project.set_field("entityName", lambda node, _info: node.entity.name)
organization.set_field("coreWeaveOrganizationId", lambda _node, _info: None)


def why_not(document: DocumentNode) -> str | None:
    """Why a document is refused that asks for what is not served; None where nothing is known of it."""
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            for selected in definition.selection_set.selections:
                if isinstance(selected, FieldNode) and selected.name.value in _NOT_SERVED:
                    return _NOT_SERVED[selected.name.value]
    return None


BINDABLES = (query, mutation, project, run_project, run, organization)
