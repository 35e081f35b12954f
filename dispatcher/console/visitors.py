"""Who looks at a page: the session in the cookie, looked up for each request, so that a lost role is seen at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response

from dispatcher.api.identity_provider import is_loopback
from dispatcher.api.resources import ApiResources
from dispatcher.console.failures import SignInNeeded
from dispatcher.console.origins import origin_of
from dispatcher.control import sessions
from dispatcher.control.sessions import NewSession
from shared.settings import Settings
from shared.storage.accounts.sessions import OpenSession
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction, reading_once, write_transaction

SECURE_COOKIE = "__Host-hookline"
"""A browser takes it over https only, from the very host, for all paths: no other host or page can plant one."""
PREFIXED_COOKIE = "__Secure-hookline"
"""Where the console is below a prefix: the host is shared with others, who need not get the cookie. A browser takes the
name over https only."""
LOCAL_COOKIE = "hookline"
"""Over plain http, where browsers refuse the other name."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is signed in."""

    opened: OpenSession

    @property
    def principal(self) -> Principal:
        """The user, with the roles of this moment."""
        return self.opened.principal


async def _resources(request: Request) -> ApiResources:
    resources: ApiResources = request.state.resources
    if request.method != "GET":
        return resources
    return replace(resources, engine=reading_once(resources.engine))


ResourcesDep = Annotated[ApiResources, Depends(_resources)]


def visitor_of(request: Request, resources: ResourcesDep) -> Visitor:
    """Who is signed in. Raises SignInNeeded when nobody is."""
    token = presented_token(request, resources.settings)
    opened = None
    if token:
        with read_transaction(resources.engine) as connection:
            opened = sessions.find_session(connection, token)
    if opened is None:
        raise SignInNeeded("sign in first")
    if sessions.is_due(opened.session):
        with write_transaction(resources.engine) as connection:
            sessions.touch(connection, opened.session)
    visitor = Visitor(opened)
    request.state.visitor = visitor
    return visitor


VisitorDep = Annotated[Visitor, Depends(visitor_of)]


def is_secure(request: Request, settings: Settings) -> bool:
    """Whether the browser came by https."""
    return origin_of(request, settings).startswith("https://")


def may_sign_in(request: Request, settings: Settings) -> bool:
    """Whether nobody on the way can read the session: https, this machine, or a setting that says so."""
    return (
        is_secure(request, settings)
        or settings.console_insecure
        or is_loopback(urlsplit(origin_of(request, settings)).hostname or "")
    )


def presented_token(request: Request, settings: Settings) -> str | None:
    """The session's token that the browser brings."""
    return request.cookies.get(_cookie(request, settings))


def _cookie(request: Request, settings: Settings) -> str:
    if not is_secure(request, settings):
        return LOCAL_COOKIE
    return PREFIXED_COOKIE if settings.root_path else SECURE_COOKIE


def remember(response: Response, request: Request, settings: Settings, made: NewSession) -> None:
    """Give the browser its session. The cookie ends with the browser, or when the server says so."""
    response.set_cookie(
        _cookie(request, settings),
        made.token,
        path=settings.root_path or "/",
        secure=is_secure(request, settings),
        httponly=True,
        samesite="lax",
    )


def forget(response: Response, request: Request, settings: Settings) -> None:
    """Take the session from the browser."""
    response.delete_cookie(
        _cookie(request, settings),
        path=settings.root_path or "/",
        secure=is_secure(request, settings),
        httponly=True,
        samesite="lax",
    )
