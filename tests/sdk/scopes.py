"""The scopes that the client knows, made in a running Hookline and looked up by the client."""

from __future__ import annotations

from typing import Any

from tests.sdk.conftest import Hookline, event

PROJECT, REGISTRY, COLLECTION = "training", "wandb-registry-model", "llm-models"
SCOPES = ("collection of a registry", "collection of a project", "project", "registry", "team", "organization")


def prepare(hookline: Hookline) -> None:
    """A project of the team, a registry of the organization, and a collection in each."""
    hookline.collection(PROJECT, COLLECTION)
    hookline.collection(REGISTRY, COLLECTION, entity="corp")


def looked_up(api: Any, scope: str) -> Any:
    """What the client takes for a scope of this kind."""
    match scope:
        case "collection of a registry":
            return next(api.registry("model", organization="corp").collections(filter={"name": COLLECTION}))
        case "collection of a project":
            return api.artifact_collection("model", f"acme/{PROJECT}/{COLLECTION}")
        case "project":
            return api.project(PROJECT, entity="acme")
        case "registry":
            return api.registry("model", organization="corp")
        case "team":
            return api.team("acme")
        case _:
            return api.organization("corp")


def owner(scope: str) -> str:
    """The entity that an automation with this scope belongs to."""
    return "corp" if scope in ("collection of a registry", "registry", "organization") else "acme"


def event_in(scope: str, type_: str, **data: Any) -> dict[str, Any]:
    """An event that happens in a scope of this kind."""
    if scope in ("collection of a registry", "registry"):
        return event(type_, entity="corp", project=REGISTRY, **data)
    return event(type_, entity="acme", project=PROJECT, **data)
