"""Beginning a run, and changing what is said of it: `upsertBucket` of the `wandb` client."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from dispatcher.control.access import Action, entities_with, require
from dispatcher.control.errors import NotFound
from dispatcher.wandb_runs.configs import is_of_old_client, read_config
from dispatcher.wandb_runs.history import clean_text
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.types import RunPhase
from shared.domain.events.values import NAME_FORM, is_name
from shared.storage.accounts.users import Principal, find_user
from shared.storage.definitions import wandb_runs as store
from shared.storage.definitions.entities import StoredEntity, list_entities
from shared.storage.definitions.wandb_runs import StoredRun, wandb_run_key

DEFAULT_PROJECT: Final = "uncategorized"
MAX_TAGS: Final = 100
MAX_NOTES: Final = 4096
_ALPHABET: Final = string.ascii_lowercase + string.digits
_TEXTS: Final = {
    "display_name": "display_name",
    "group_name": "group",
    "job_type": "job_type",
    "host": "host",
    "job_program": "program",
    "sweep": "sweep",
}
"""The texts that the client sends of a run, and what they are called in events."""


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run as it is now, and whether nothing was known of it."""

    entity: StoredEntity
    run: StoredRun
    is_new: bool


def upsert(
    connection: Connection,
    principal: Principal,
    given: Mapping[str, Any],
    *,
    starts: int | None,
    heartbeat: timedelta,
) -> BegunRun:
    """Begin a run, go on with it, or change what is said of it.

    A run is started by its first request, by one with an id to start it again (`starts`: how often it had been
    started then), and by one of another process: which tells its host and has no id. So a repeated request starts
    nothing again. Clients before 0.20 never have an id: theirs start a run that has ended, or was silent for half of
    its heartbeat.

    Raises:
        NotFound, Forbidden: as `access.require`.
        InvalidDefinition: naming what is wrong with the names, or the config.
    """
    entity = publishable_entity(connection, principal, given.get("entity_name"))
    project, run = given.get("model_name") or DEFAULT_PROJECT, given.get("name") or _new_id()
    faults = [
        FieldError((field,), f"must be {NAME_FORM}, and without /")
        for field, name in (("modelName", project), ("name", run))
        if not is_name(name) or "/" in name
    ]
    if faults:
        raise InvalidDefinition(*faults)
    said, now = _said(given), datetime.now(UTC)
    key = wandb_run_key(entity.name, project, run)
    known = store.find_run(connection, key, lock=True)
    is_new = known is None and remember(connection, entity, project, run, said, told_at=now)
    stored = known or store.find_run(connection, key, lock=True)
    if stored is None:
        raise NotFound(f"the run {run!r} was forgotten at this moment: try again")
    if is_new:
        return BegunRun(entity, stored, is_new=True)
    about = {**stored.about, **said}
    if about != stored.about:
        store.change_about(connection, key, about, now)
        stored = replace(stored, about=about)
    if _starts_again(stored, given, starts, silence=now - stored.seen_at, heartbeat=heartbeat):
        store.start_again(connection, key, stored.starts + 1, now, goes_on=starts is not None)
        stored = replace(stored, starts=stored.starts + 1, state=RunPhase.RUNNING, streamed=False)
    return BegunRun(entity, stored, is_new=False)


def remember(
    connection: Connection,
    entity: StoredEntity,
    project: str,
    run: str,
    about: Mapping[str, Any],
    *,
    told_at: datetime,
) -> bool:
    """Remember a new run; False if somebody else did so first."""
    return store.insert_run(
        connection,
        key=wandb_run_key(entity.name, project, run),
        entity_id=entity.id,
        project=project,
        run=run,
        token=secrets.token_hex(8),
        about=about,
        told_at=told_at,
        now=datetime.now(UTC),
    )


def publishable_entity(connection: Connection, principal: Principal, name: str | None) -> StoredEntity:
    """The entity of this name, or the user's default one. Raises as `access.require`, and InvalidDefinition."""
    if name:
        return require(connection, principal, name, Action.PUBLISH)
    user = find_user(connection, principal.user_name)
    if user is not None and user.default_entity is not None:
        return require(connection, principal, user.default_entity, Action.PUBLISH)
    among = None if principal.is_admin else entities_with(principal, Action.PUBLISH)
    found: Sequence[StoredEntity] = list_entities(connection, among=among, after=0, limit=2)
    if len(found) != 1:
        msg = "is required: set WANDB_ENTITY to one of the entities that this key may publish to"
        raise InvalidDefinition.at(("entityName",), msg)
    return found[0]


def _starts_again(
    stored: StoredRun, given: Mapping[str, Any], starts: int | None, *, silence: timedelta, heartbeat: timedelta
) -> bool:
    if starts is not None:
        return starts == stored.starts
    if given.get("id") or not (given.get("host") or given.get("job_program")):
        return False
    if stored.state is not RunPhase.RUNNING:
        return True
    return stored.streamed and (silence >= heartbeat / 2 or not is_of_old_client(given.get("config")))


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the request says of the run; what it leaves out stays as it is."""
    said: dict[str, Any] = {
        name: clean_text(given[field]) for field, name in _TEXTS.items() if given.get(field) is not None
    }
    if given.get("tags") is not None:
        said["tags"] = [clean_text(tag) for tag in given["tags"][:MAX_TAGS]]
    if given.get("notes") is not None:
        said["notes"] = given["notes"][:MAX_NOTES]
    if given.get("config") is not None:
        said["config"] = read_config(given["config"])
    return said


def _new_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))
