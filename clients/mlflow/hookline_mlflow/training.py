"""For trainings whose MLflow server can't be touched: the client publishes what it has successfully told the server.

Behind HOOKLINE_MLFLOW_CLIENT, since a server with the plugin publishes the same. What others change, in the UI for
instance, is not seen. Events go through `hookline.Background`: they wait in a spool, and no call waits for them.
"""

from __future__ import annotations

import functools
import logging
import os
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hookline import events
from hookline.background import Background
from hookline.values import clean_name

from hookline_mlflow.facts import Fact, metric_facts, sample_value, state_fact
from hookline_mlflow.run_events import OWN_KEYS, KnownRun, event_of
from hookline_mlflow.tags import artifact_id, tag_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from hookline_mlflow.settings import Settings

log = logging.getLogger("hookline")
_MAX_RUNS = 200
"""How many runs are remembered; another one is asked for again."""


@dataclass
class _Logged:
    run_uuid: str
    key: str
    value: float
    is_nan: bool
    step: int
    timestamp: int


class PublishingClient:
    """Publishes what passes through one of MLflow's stores.

    Each public method but `attend` is called after the store's method of that name, with its result and its
    arguments.
    """

    def __init__(self, store: Any, settings: Settings, background: Background) -> None:
        self._store, self._settings, self._background = store, settings, background

    def attend(self, *methods: str) -> None:
        """Be called after each of these methods of the store. What goes wrong here reaches nobody."""
        for name in methods:
            if hasattr(self._store, name):
                setattr(self._store, name, _then(getattr(self._store, name), getattr(self, name)))

    def publish(self, event: events.Event) -> None:
        """Have an event sent soon."""
        self._background.publish(event)

    def common(self, author: str = "") -> events.Common:
        """What all events of a client have."""
        return {
            "entity": self._settings.entity_of(os.environ.get("MLFLOW_WORKSPACE")),
            "author": author or clean_name(os.environ.get("MLFLOW_TRACKING_USERNAME", "")),
            "source": self._settings.source,
        }


class RunsClient(PublishingClient):
    """States and metrics of runs."""

    def __init__(self, store: Any, settings: Settings, background: Background) -> None:
        super().__init__(store, settings, background)
        self._runs: OrderedDict[str, tuple[KnownRun, str]] = OrderedDict()
        """Each with its last state in MLflow's words."""
        self.attend("create_run", "update_run_info", "log_metric", "log_batch", "log_param")
        # It took the store's own method when it was made.
        queue: Any = getattr(store, "_async_logging_queue", None)
        if hasattr(queue, "_logging_func"):
            queue._logging_func = store.log_batch

    def create_run(self, run: Any, *_arguments: Any, **_options: Any) -> None:
        """A run was created."""
        known = self._known_of(run)
        self._remember(known, "RUNNING")
        self._tell(state_fact(known.run_id, run.info.status, run.info.start_time, ""))

    def update_run_info(
        self, info: Any, run_id: str, run_status: Any = None, end_time: Any = None, run_name: Any = None
    ) -> None:
        """A run ended, runs again, or got another name."""
        from mlflow.entities import RunStatus

        was_known = run_id in self._runs  # else the server's answer is what this call made of it
        known, former = self._known(run_id)
        known = replace(known, name=info.run_name or known.name)
        status = former if run_status is None else _text_of(run_status, RunStatus)
        self._remember(known, status)
        if run_status is not None and (status != former or not was_known):
            self._tell(state_fact(run_id, status, None if status == "RUNNING" else end_time, ""))

    def log_metric(self, _result: Any, run_id: str, metric: Any) -> None:
        """A metric was logged."""
        self._tell_metrics(run_id, [metric])

    def log_batch(self, _result: Any, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        """Several things were logged."""
        known, status = self._known(run_id)
        if params or tags:
            more_params = {one.key: one.value for one in params or ()}
            more_tags = {one.key: one.value for one in tags or ()}
            known = replace(known, params={**known.params, **more_params}, tags={**known.tags, **more_tags})
            self._remember(known, status)
        self._tell_metrics(run_id, metrics or ())

    def log_param(self, _result: Any, run_id: str, param: Any) -> None:
        """A parameter was logged."""
        known, status = self._known(run_id)
        self._remember(replace(known, params={**known.params, param.key: param.value}), status)

    def _tell_metrics(self, run_id: str, metrics: Any) -> None:
        samples = [
            _Logged(run_id, one.key, float(one.value), one.value != one.value, one.step, one.timestamp)
            for one in metrics
            if self._settings.wants(one.key)
        ]
        if not samples:
            return
        known, status = self._known(run_id)
        summary = {**known.summary, **{one.key: sample_value(one.value, one.is_nan) for one in samples}}
        self._remember(replace(known, summary=summary), status)
        for fact in metric_facts(samples, ""):
            self._tell(fact)

    def _tell(self, fact: Fact | None) -> None:
        if fact is not None:
            known, _ = self._known(fact["run"])
            self.publish(event_of({**fact, "source": self._settings.source}, known))

    def _known(self, run_id: str) -> tuple[KnownRun, str]:
        """A run that this process began, or that the server knows; with its state."""
        if run_id not in self._runs:
            run = self._store.get_run(run_id)
            self._remember(self._known_of(run), run.info.status)
        return self._runs[run_id]

    def _known_of(self, run: Any) -> KnownRun:
        experiment = self._store.get_experiment(run.info.experiment_id)
        metrics = {key: value for key, value in run.data.metrics.items() if self._settings.wants(key)}
        return KnownRun(
            run_id=run.info.run_id,
            name=run.info.run_name,
            user=run.info.user_id or run.data.tags.get("mlflow.user"),
            experiment_id=str(run.info.experiment_id),
            experiment=experiment.name,
            entity=self._settings.entity_of(getattr(experiment, "workspace", None)),
            params=dict(run.data.params),
            tags=dict(run.data.tags),
            summary={key: sample_value(value, value != value) for key, value in metrics.items()},
        )

    def _remember(self, known: KnownRun, status: str) -> None:
        self._runs[known.run_id] = known, status
        self._runs.move_to_end(known.run_id)
        while len(self._runs) > _MAX_RUNS:
            self._runs.popitem(last=False)


class ModelsClient(PublishingClient):
    """Versions, aliases and tags of models that this process adds; what it takes away is not told."""

    def __init__(self, store: Any, settings: Settings, background: Background) -> None:
        super().__init__(store, settings, background)
        self.attend(
            "create_model_version", "set_registered_model_alias", "set_model_version_tag", "set_registered_model_tag"
        )

    def create_model_version(self, version: Any, *_arguments: Any, **_options: Any) -> None:
        """A version was created."""
        of_all = self._of_version(version)
        self.publish(events.artifact_created(**of_all, **self.common()))
        self.publish(events.artifact_linked(**of_all, **self.common()))

    def set_registered_model_alias(self, _result: Any, name: str, alias: str, version: Any) -> None:
        """An alias was set."""
        of_all = self._of_version(self._store.get_model_version(name, str(version)))
        self.publish(events.alias_added(**of_all, alias=clean_name(alias), **self.common()))

    def set_model_version_tag(self, _result: Any, name: str, version: Any, tag: Any) -> None:
        """A version got a tag."""
        if not tag.key.startswith(OWN_KEYS):
            of_all = self._of_version(self._store.get_model_version(name, str(version)))
            self.publish(events.artifact_tag_added(**of_all, tag=tag_name(tag.key, tag.value), **self.common()))

    def set_registered_model_tag(self, _result: Any, name: str, tag: Any) -> None:
        """A model got a tag."""
        if not tag.key.startswith(OWN_KEYS):
            collection = events.Collection(clean_name(name), "model")
            told = tag_name(tag.key, tag.value)
            self.publish(
                events.collection_tag_added(
                    project=self._settings.registry, collection=collection, tag=told, **self.common()
                )
            )

    def _of_version(self, version: Any) -> dict[str, Any]:
        tags = {key: value for key, value in version.tags.items() if not key.startswith(OWN_KEYS)}
        own = {"run_id": version.run_id, "source": version.source, "description": version.description}
        artifact = events.Artifact(
            artifact_id(version.name, version.version),
            version=f"v{version.version}",
            aliases=[clean_name(alias) for alias in version.aliases],
            tags=[tag_name(key, value) for key, value in tags.items()],
            metadata={key: value for key, value in {**tags, **own}.items() if value},
        )
        collection = events.Collection(clean_name(version.name), "model")
        return {"project": self._settings.registry, "collection": collection, "artifact": artifact}


def _text_of(status: Any, kinds: Any) -> str:
    return str(status) if isinstance(status, str) else str(kinds.to_string(status))


def _then(method: Callable[..., Any], after: Callable[..., None]) -> Callable[..., Any]:
    @functools.wraps(method)
    def called(*arguments: Any, **options: Any) -> Any:
        result = method(*arguments, **options)
        try:
            after(result, *arguments, **options)
        except Exception as exc:
            log.warning("an event of MLflow's was not published: %s", " ".join(str(exc).split())[:500])
        return result

    return called
