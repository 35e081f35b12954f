"""Who asks, and what this server can do."""

from __future__ import annotations

from typing import Any

from ariadne import ObjectType, QueryType

from dispatcher.graphql.nodes import ORGANIZATION, EntityNode, OrganizationNode
from dispatcher.graphql.pages import Connection, page_of, position_after
from dispatcher.graphql.session import Info
from shared.domain.ids import IdKind, encode_id
from shared.storage.accounts.users import Principal, find_user

FEATURES = {
    "ARTIFACT_REGISTRY_SEARCH": True,
    "INCLUDE_ARTIFACT_TYPES_IN_REGISTRY_CREATION": True,
    "ARTIFACT_COLLECTIONS_FILTERING_SORTING": True,
    "QUERY_AUTOMATIONS_ON_ENTITY": True,
    "AUTOMATIONS_ON_ORGANIZATION": True,
    "AUTOMATION_SCOPE_ENTITY": True,
    "AUTOMATION_EVENT_RUN_METRIC": True,
    "AUTOMATION_EVENT_RUN_METRIC_CHANGE": True,
    "AUTOMATION_EVENT_RUN_METRIC_ZSCORE": True,
    "AUTOMATION_EVENT_RUN_STATE": True,
    "AUTOMATION_EVENT_ADD_ARTIFACT_TAG": True,
    "AUTOMATION_EVENT_REMOVE_ARTIFACT_TAG": True,
    "AUTOMATION_EVENT_ADD_COLLECTION_TAG": True,
    "AUTOMATION_EVENT_REMOVE_COLLECTION_TAG": True,
    "AUTOMATION_EVENT_UNLINK_ARTIFACT": True,
    "AUTOMATION_ACTION_NO_OP": True,
    # W&B's own agent, which has no counterpart here.
    "AUTOMATION_ACTION_ARIA": False,
}
"""By the client's names (`wandb.proto.wandb_internal_pb2.ServerFeature`)."""
MAX_CLI_VERSION = "0.31.0"
"""Clients up to 0.23 use what servers have had since the client of some earlier version was new."""

query = QueryType()
user = ObjectType("User")


@query.field("viewer")
def resolve_viewer(_root: Any, info: Info) -> Principal:
    """Who the key belongs to."""
    session = info.context
    return session.principal


@query.field("serverInfo")
def resolve_server_info(_root: Any, _info: Info) -> dict[str, Any]:
    """The features that the client asks about before it uses them."""
    features = [{"name": name, "is_enabled": enabled} for name, enabled in FEATURES.items()]
    return {
        "features": features,
        "cli_version_info": {"max_cli_version": MAX_CLI_VERSION},
        "latest_local_version_info": None,
    }


@user.field("id")
def resolve_id(principal: Principal, _info: Info) -> str:
    """The id that the user has in REST."""
    return encode_id(IdKind.USER, principal.user_id)


@user.field("email")
def resolve_email(principal: Principal, info: Info) -> str | None:
    """The user's address."""
    found = find_user(info.context.connection, principal.user_name)
    return None if found is None else found.email


@user.field("entity")
def resolve_default_entity(_principal: Principal, info: Info) -> str | None:
    """The default entity."""
    session = info.context
    return session.default_entity()


@user.field("teams")
def resolve_teams(
    _principal: Principal, info: Info, *, after: str | None = None, first: int | None = None
) -> Connection:
    """The teams that the user may read."""
    session = info.context
    _, number = position_after(after)
    readable = session.entities(number + 1)
    return page_of((((0, each.id), EntityNode(each)) for each in readable if each.kind != ORGANIZATION), first)


@user.field("organizations")
def resolve_organizations(_principal: Principal, info: Info) -> list[OrganizationNode]:
    """The organizations that the user may read, and those above what the user may read."""
    return [OrganizationNode(name) for name in info.context.organizations()]


for _name in ("name", "username"):
    user.set_field(_name, lambda principal, _info: principal.user_name)
user.set_field("admin", lambda principal, _info: principal.is_admin)
user.set_field("flags", lambda _principal, _info: "{}")
user.set_field("apiKeys", lambda _principal, _info: {"edges": []})

BINDABLES = (query, user)
