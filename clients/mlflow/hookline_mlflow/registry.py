"""Events of the model registry, from a flush of MLflow's session, and as the database is after it.

They are written whole, since aliases and tags are to be as they were at that time; such changes are rare.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from hookline import events
from hookline.values import MAX_METRICS, clean_name

from hookline_mlflow.facts import sample_value
from hookline_mlflow.run_events import OWN_KEYS
from hookline_mlflow.tags import artifact_id, tag_name

if TYPE_CHECKING:
    from hookline.events import Artifact, Collection, Event

    from hookline_mlflow.settings import Settings

_IS_PROMPT = "mlflow.prompt.is_prompt"
_NO_STAGES = frozenset({"None", "Archived", "Deleted_Internal", "", None})
_DELETED = "Deleted_Internal"


@dataclass(frozen=True)
class Tables:
    """The tables that are read, which MLflow's classes describe."""

    tags: sa.Table
    aliases: sa.Table
    versions: sa.Table
    version_tags: sa.Table
    latest_metrics: sa.Table

    @classmethod
    def of_mlflow(cls) -> Tables:
        """Those of the MLflow that is installed. Raises ImportError, AttributeError for one that has them no more."""
        from mlflow.store.model_registry.dbmodels import models
        from mlflow.store.tracking.dbmodels.models import SqlLatestMetric

        return cls(
            models.SqlRegisteredModelTag.__table__,
            models.SqlRegisteredModelAlias.__table__,
            models.SqlModelVersion.__table__,
            models.SqlModelVersionTag.__table__,
            SqlLatestMetric.__table__,
        )


def classes() -> frozenset[type[Any]]:
    """MLflow's classes whose changes may be events. Raises ImportError, AttributeError as `Tables.of_mlflow`."""
    from mlflow.store.model_registry.dbmodels import models

    return frozenset(getattr(models, name) for name in ("SqlRegisteredModel", *_TYPES))


@dataclass(frozen=True)
class Change:
    """One change of the registry: an object of MLflow's, and what it was before where that matters."""

    kind: str
    of: Any
    former: Any = None


def changes(new: Iterable[Any], dirty: Iterable[Any], deleted: Iterable[Any], *, stages: bool) -> list[Change]:
    """What a flush changed, in the order in which people would tell it."""
    found: list[Change] = []
    for one in new:
        if type(one).__name__ in ("SqlModelVersion", "SqlRegisteredModelAlias", "SqlModelVersionTag", *_OF_MODELS):
            found.append(Change("added", one))
    for one in dirty:
        found += _edits(one, stages)
    gone = list(deleted)
    models = {(getattr(one, "workspace", None), one.name) for one in gone if type(one).__name__ == "SqlRegisteredModel"}
    for one in gone:
        kind = type(one).__name__
        is_of_gone_model = (getattr(one, "workspace", None), getattr(one, "name", None)) in models
        if kind == "SqlModelVersion" and one.current_stage != _DELETED:
            found.append(Change("unlinked", one))
        elif kind in ("SqlRegisteredModelAlias", "SqlModelVersionTag", *_OF_MODELS) and not is_of_gone_model:
            found.append(Change("removed", one))
    return sorted(found, key=lambda change: _ORDER.index((change.kind, type(change.of).__name__)))


_OF_MODELS = ("SqlRegisteredModelTag",)
_TYPES = ("SqlModelVersion", "SqlRegisteredModelTag", "SqlModelVersionTag", "SqlRegisteredModelAlias")
_ORDER = [(kind, type_) for kind in ("removed", "added", "changed", "staged", "unlinked") for type_ in _TYPES]


def _edits(one: Any, stages: bool) -> Iterator[Change]:
    kind = type(one).__name__
    if kind == "SqlModelVersion":
        history = sa.inspect(one).attrs.current_stage.history
        if history.has_changes():
            (former,) = history.deleted or (None,)
            if one.current_stage == _DELETED:
                yield Change("unlinked", one)
            elif stages:
                yield Change("staged", one, former)
    elif kind in ("SqlRegisteredModelAlias", "SqlModelVersionTag", *_OF_MODELS):
        history = sa.inspect(one).attrs["version" if kind == "SqlRegisteredModelAlias" else "value"].history
        if history.has_changes():
            yield Change("changed", one, *(history.deleted or (None,)))


class Registry:
    """Makes events of changes; reads in the transaction that made them."""

    def __init__(self, settings: Settings, tables: Tables) -> None:
        self._settings = settings
        self._tables = tables

    def events(self, connection: sa.Connection, change: Change, author: str) -> Iterator[Event]:
        """The events of one change. Raises InvalidEvent, and what the database raises."""
        one = change.of
        common: events.Common = {
            "entity": self._settings.entity_of(getattr(one, "workspace", None)),
            "author": author,
            "source": self._settings.source,
        }
        of_all: dict[str, Any] = {"project": self._settings.registry, "collection": self._collection(connection, one)}
        kind = type(one).__name__
        if kind == "SqlRegisteredModelTag":
            yield from _of_tag(change, events.collection_tag_added, events.collection_tag_removed, of_all, common)
            return
        if change.kind == "unlinked":
            artifact = events.Artifact(artifact_id(one.name, one.version), version=f"v{one.version}")
            yield events.artifact_unlinked(**of_all, artifact=artifact, **common)
            return
        of_all["artifact"] = self._artifact(connection, one, one.version)
        if kind == "SqlModelVersionTag":
            yield from _of_tag(change, events.artifact_tag_added, events.artifact_tag_removed, of_all, common)
        elif kind == "SqlRegisteredModelAlias":
            alias = clean_name(one.alias)
            if change.kind == "changed" and change.former is not None:
                before = {**of_all, "artifact": self._artifact(connection, one, change.former)}
                yield events.alias_removed(**before, alias=alias, **common)
            build = events.alias_removed if change.kind == "removed" else events.alias_added
            yield build(**of_all, alias=alias, **common)
        elif change.kind == "staged":
            if change.former not in _NO_STAGES:
                yield events.alias_removed(**of_all, alias=change.former, **common)
            if one.current_stage not in _NO_STAGES:
                yield events.alias_added(**of_all, alias=one.current_stage, **common)
        else:
            yield events.artifact_created(**of_all, **common)
            yield events.artifact_linked(**of_all, **common)

    def _collection(self, connection: sa.Connection, one: Any) -> Collection:
        table = self._tables.tags
        query = sa.select(table.c.value).where(*_same(table, one, "name"), table.c.key == _IS_PROMPT)
        is_prompt = (connection.execute(query).scalar() or "").lower() == "true"
        return events.Collection(clean_name(one.name), "prompt" if is_prompt else "model")

    def _artifact(self, connection: sa.Connection, one: Any, version: int) -> Artifact:
        """A version as it is now, with the last metrics of the run that made it."""
        tables = self._tables
        aliases = connection.execute(
            sa.select(tables.aliases.c.alias)
            .where(*_same(tables.aliases, one, "name"), tables.aliases.c.version == version)
            .order_by(tables.aliases.c.alias)
        ).scalars()
        of_version = tables.version_tags.c
        tags = connection.execute(
            sa.select(of_version.key, of_version.value)
            .where(*_same(tables.version_tags, one, "name"), of_version.version == version)
            .order_by(of_version.key)
        ).all()
        facts = tables.versions.c
        row = connection.execute(
            sa.select(facts.run_id, facts.source, facts.description).where(
                *_same(tables.versions, one, "name"),
                facts.version == version,
                facts.current_stage != _DELETED,  # of which MLflow keeps placeholders
            )
        ).first()
        own = {key: value for key, value in tags if not key.startswith(OWN_KEYS)}
        metadata: dict[str, Any] = dict(own)
        if row is not None:
            of_row = {"run_id": row.run_id, "source": row.source, "description": row.description}
            metadata = {**self._last_metrics(connection, row.run_id), **own, **of_row}
        return events.Artifact(
            artifact_id(one.name, version),
            version=f"v{version}",
            aliases=[clean_name(alias) for alias in aliases],
            tags=[tag_name(key, value) for key, value in own.items()],
            metadata={key: value for key, value in metadata.items() if value is not None},
        )

    def _last_metrics(self, connection: sa.Connection, run_id: str | None) -> dict[str, Any]:
        if not run_id:
            return {}
        table = self._tables.latest_metrics.c
        found = connection.execute(
            sa.select(table.key, table.value, table.is_nan).where(table.run_uuid == run_id).limit(MAX_METRICS)
        )
        return {key: sample_value(value, is_nan) for key, value, is_nan in found}


def _of_tag(change: Change, added: Any, removed: Any, of_all: dict[str, Any], common: events.Common) -> Iterator[Event]:
    one = change.of
    if one.key.startswith(OWN_KEYS):
        return
    if change.kind == "changed":
        yield removed(**of_all, tag=tag_name(one.key, change.former), **common)
    build = removed if change.kind == "removed" else added
    yield build(**of_all, tag=tag_name(one.key, one.value), **common)


def _same(table: sa.Table, one: Any, *columns: str) -> list[sa.ColumnElement[bool]]:
    """Rows of the same model; of the same workspace where MLflow has them."""
    names = [*columns, "workspace"] if "workspace" in table.c else columns
    return [table.c[name] == getattr(one, name) for name in names]
