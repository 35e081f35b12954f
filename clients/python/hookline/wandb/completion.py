"""Completes the classes of the `wandb` client in place.

In place, since scripts import them from `wandb.automations` by name, and the client validates what it sends by these
very classes. Each method that the client has keeps its meaning.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from wandb.apis.public import api as api_module
from wandb.apis.public.artifacts import ArtifactCollection
from wandb.apis.public.projects import Project
from wandb.apis.public.registries.registry import Registry
from wandb.automations import Automation, NewAutomation, _inputs, events

from hookline.wandb import conditions, documents, webhooks
from hookline.wandb.servers import require_hookline

_API = "_hookline_api"
_ORGANIZATION = "query HooklineOrganization($entity: String!) { entity(name: $entity) { organization { name } } }"
_origins: dict[int, Any] = {}
"""The Api that made or listed an automation, by the automation's `id()`: a model has no place for more."""


def complete() -> None:
    """Complete the client of this process."""
    _speak_to_hookline_only()
    documents.complete()
    webhooks.complete()
    _remember_origins()
    for kind in (Project, Registry, ArtifactCollection):
        kind.automations = _automations_of
    Automation.save, Automation.delete = _save, _delete
    Registry.collection = _collection
    api_module.Api.registry = _with_entity(api_module.Api.registry)
    conditions.complete()
    events.OnCreateArtifact.model_fields["scope"] = events._BaseEventInput.model_fields["scope"]
    # Each contains the ones before it.
    for model in (
        events.RunMetricFilter,
        events.SavedEvent,
        events.OnRunMetric,
        events.OnCreateArtifact,
        Automation,
        NewAutomation,
        _inputs.ValidatedCreateInput,
        _inputs.ValidatedUpdateInput,
    ):
        model.model_rebuild(force=True)


def _speak_to_hookline_only() -> None:
    """Before a key is looked for, before anything is sent, and before each use of an Api that was made earlier."""
    load_auth, make = api_module.Api._load_auth, api_module.ServiceApi

    def checked_load_auth(self: Any, base_url: str) -> Any:
        require_hookline(base_url)
        return load_auth(self, base_url=base_url)

    def checked_service(*of: Any, settings: Any, **more: Any) -> Any:
        require_hookline(settings.base_url)
        return make(*of, settings=settings, **more)

    api_module.Api._load_auth = checked_load_auth
    api_module.ServiceApi = checked_service
    for name in (
        *("registry", "registries", "automations", "automation", "create_automation", "update_automation"),
        *("delete_automation", "webhook_integrations", "slack_integrations", "integrations"),
    ):
        setattr(api_module.Api, name, _checked(getattr(api_module.Api, name)))


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def checked(self: Any, *of: Any, **more: Any) -> Any:
        require_hookline(self._service_api.base_url)
        setattr(self._service_api, _API, self)
        return method(self, *of, **more)

    return checked


def _remember_origins() -> None:
    api = api_module.Api
    begin, listed = api.__init__, api.automations

    @functools.wraps(begin)
    def began(self: Any, *of: Any, **more: Any) -> None:
        begin(self, *of, **more)
        setattr(self._service_api, _API, self)

    @functools.wraps(listed)
    def automations(self: Any, *of: Any, **more: Any) -> Any:
        found = listed(self, *of, **more)
        convert = found.convert_objects
        found.convert_objects = lambda: (_remembered(each, self) for each in convert())
        return found

    api.__init__, api.automations = began, automations
    api.create_automation = _remembering(api.create_automation)
    api.update_automation = _remembering(api.update_automation)


def _remembering(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def remembering(self: Any, *of: Any, **more: Any) -> Any:
        return _remembered(method(self, *of, **more), self)

    return remembering


def _remembered(automation: Any, api: Any) -> Any:
    if id(automation) not in _origins:
        weakref.finalize(automation, _origins.pop, id(automation), None).atexit = False
    _origins[id(automation)] = api
    return automation


def _origin(automation: Any, instead: str) -> Any:
    try:
        return _origins[id(automation)]
    except KeyError:
        raise ValueError(
            f"no Api has made or listed this automation {automation.name!r}, which may be a copy: use {instead}"
        ) from None


def _save(self: Any) -> None:
    """Store what was changed here, and take over what was stored."""
    stored = _origin(self, "api.update_automation(automation)").update_automation(self)
    for name in type(self).model_fields:
        self.__dict__[name] = getattr(stored, name)


def _delete(self: Any) -> None:
    """Delete the automation."""
    _origin(self, "api.delete_automation(automation)").delete_automation(self)


def _automations_of(self: Any) -> list[Any]:
    """The automations with exactly this scope; those of a registry's collections are not the registry's."""
    api = getattr(self._service_api, _API, None)
    if api is None:
        raise ValueError(
            "this was looked up by an Api from before hookline.wandb was imported: look it up by a new one"
        )
    return [each for each in api.automations(entity=self.entity) if each.scope.id == self.id]


def _collection(self: Any, name: str) -> Any:
    """The registry's collection of this name. Raises ValueError if it has none."""
    found = next(iter(self.collections(filter={"name": name})), None)
    if found is None:
        raise ValueError(f"registry {self.name!r} has no collection {name!r}")
    return found


def _with_entity(registry: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(registry)
    def with_entity(self: Any, name: str, organization: str | None = None, *, entity: str | None = None) -> Any:
        """A registry by the name of its organization, or of an entity: the organization's own, or a team in it."""
        if organization is None and entity is not None:
            organization = _organization(self, entity)
        return registry(self, name, organization)

    return with_entity


def _organization(api: Any, entity: str) -> str:
    found = api._service_api.execute_graphql(_ORGANIZATION, variables={"entity": entity})["entity"]
    if found is None:
        raise ValueError(f"there is no entity {entity!r}, or it is none of this key's")
    if found["organization"] is None:
        raise ValueError(f"entity {entity!r} belongs to no organization, and registries are an organization's")
    return str(found["organization"]["name"])
