"""What MLflow finds by its entry points: builders of its own stores, which also record.

They are registered under the schemes that MLflow itself has, and MLflow registers plugins last; so nobody changes a
URI. Without HOOKLINE_URL they build exactly what MLflow would. Must be cheap to import, since every client of MLflow
imports it.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("hookline")
_SERVER = "mlflow.server.handlers"


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """MLflow's tracking store in a database."""
    if artifact_uri is not None and (server := sys.modules.get(_SERVER)) is not None:
        store = server.TrackingStoreRegistryWrapper._get_sqlalchemy_store(store_uri, artifact_uri)
    else:
        from mlflow.tracking._tracking_service import utils

        store = utils._get_sqlalchemy_store(store_uri, artifact_uri)
    _attend(lambda: _record(store))
    return store


def registry_store(store_uri: str) -> Any:
    """MLflow's model registry in a database."""
    if (server := sys.modules.get(_SERVER)) is not None:
        store = server.ModelRegistryStoreRegistryWrapper._get_sqlalchemy_store(store_uri)
    else:
        from mlflow.tracking._model_registry import utils

        store = utils._get_sqlalchemy_store(store_uri)
    _attend(lambda: _record(store))
    return store


def rest_tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """A client of a tracking server; it publishes with HOOKLINE_MLFLOW_CLIENT."""
    from mlflow.tracking._tracking_service import utils

    store = utils._get_rest_store(store_uri, artifact_uri=artifact_uri)
    _attend(lambda: _publish(store, "RunsClient"))
    return store


def databricks_tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """A client of Databricks; it publishes with HOOKLINE_MLFLOW_CLIENT."""
    from mlflow.tracking._tracking_service import utils

    store = utils._get_databricks_rest_store(store_uri, artifact_uri=artifact_uri)
    _attend(lambda: _publish(store, "RunsClient"))
    return store


def rest_registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """A client of a model registry; it publishes with HOOKLINE_MLFLOW_CLIENT."""
    from mlflow.tracking._model_registry import utils

    store = utils._get_rest_store(store_uri, tracking_uri=tracking_uri)
    _attend(lambda: _publish(store, "ModelsClient"))
    return store


def _publish(store: Any, kind: str) -> None:
    from hookline_mlflow.settings import Settings, is_for_clients

    if is_for_clients():
        from hookline import background

        from hookline_mlflow import training

        getattr(training, kind)(store, Settings.of_environment(), background.shared())


def _attend(begin: Callable[[], None]) -> None:
    """Have a store's changes published if Hookline is configured; if that can't be, MLflow is served without."""
    if not os.environ.get("HOOKLINE_URL"):
        return
    try:
        begin()
    except Exception as exc:
        log.warning(
            "MLflow is served without events for Hookline: %s", " ".join(str(exc).split()) or type(exc).__name__
        )


def _record(store: Any) -> None:
    from hookline_mlflow.recorder import Recorder
    from hookline_mlflow.relaying import ensure
    from hookline_mlflow.settings import Settings
    from hookline_mlflow.tables import create

    settings = Settings.of_environment()
    if store.engine.url.database in (None, "", ":memory:") and store.engine.dialect.name == "sqlite":
        raise RuntimeError("a database in memory can't be relayed")
    recorder = Recorder(settings)
    create(store.engine)
    recorder.listen(_session_class(store))
    if settings.relays:
        ensure(store.engine, settings)
        recorder.after_fork = lambda: ensure(store.engine, settings)


def writing_session(store: Any) -> Any:
    """A session in which a store writes, for a `with` statement."""
    try:
        return store.ManagedSessionMaker(read_only=False)
    except TypeError:  # before it knew of replicas
        return store.ManagedSessionMaker()


def _session_class(store: Any) -> Any:
    """The class of the sessions in which a store writes: each `sessionmaker` has one of its own."""
    import sqlalchemy.orm

    with writing_session(store) as session:
        found = type(session)
    if found is sqlalchemy.orm.Session:
        raise RuntimeError("this MLflow makes its sessions in another way than those that are known")
    return found
