"""Signing in with an account of an identity provider: to it, back from it, and out of it.

What must be known when the browser comes back is in a cookie of its own, encrypted with the keys of secrets: no process
keeps anything, and nobody else's browser can finish what this one began. A GET that comes back makes a session, since
OpenID Connect has no other way; `state` is what makes it this browser's own wish.
"""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from dispatcher.api.identity_provider import IdentityProvider, SignInFailed
from dispatcher.api.resources import ApiResources
from dispatcher.console.origins import local_path, origin_of
from dispatcher.console.pages.start import door, sentence_of
from dispatcher.console.visitors import ResourcesDep, is_secure, may_sign_in, presented_token, remember
from dispatcher.control import sessions
from dispatcher.control.errors import Forbidden, NotFound
from dispatcher.control.identities import Account
from dispatcher.control.sessions import NewSession
from shared.storage.database.transactions import write_transaction
from shared.vault import SecretUnreadable

router = APIRouter(prefix="/oidc")
COOKIE = "hookline-oidc"
SECONDS = 600
"""As long somebody may take at the provider."""


def _provider(resources: ApiResources) -> IdentityProvider:
    if resources.identity_provider is None:
        raise NotFound("no identity provider is configured")
    return resources.identity_provider


@router.get("/start")
async def start(
    request: Request, resources: ResourcesDep, onward: Annotated[str, Query(alias="next")] = ""
) -> Response:
    """Send the browser to the provider."""
    provider, target = _provider(resources), local_path(onward)
    if not may_sign_in(request, resources.settings):
        return door(request, resources, onward=target, status=403)
    begun: dict[str, Any] = {}
    request.scope["session"] = begun
    try:
        address = await provider.begin(request, f"{_base(request, resources)}/oidc/callback")
    except SignInFailed as exc:
        return door(request, resources, onward=target, status=502, account_fault=sentence_of(exc))
    answer = RedirectResponse(address, 303)
    kept = {"until": time.time() + SECONDS, "next": target, "begun": _without_address(begun)}
    _keep(answer, request, resources, resources.vault.encrypt(json.dumps(kept)).decode())
    return answer


@router.get("/callback")
async def callback(request: Request, resources: ResourcesDep) -> Response:
    """Make a session of the account with which the browser comes back."""
    provider, settings = _provider(resources), resources.settings
    kept = _kept(request, resources)
    onward = local_path(str(kept.get("next", "")))
    request.scope["session"] = kept.get("begun", {})
    try:
        account = await provider.finish(request)
        made = await run_in_threadpool(_sign_in, request, resources, account)
    except (SignInFailed, Forbidden) as exc:
        answer = door(request, resources, onward=onward, status=403, account_fault=sentence_of(exc))
    else:
        answer = RedirectResponse(onward, 303)
        remember(answer, request, settings, made)
    _keep(answer, request, resources, "")
    return answer


def _sign_in(request: Request, resources: ApiResources, account: Account) -> NewSession:
    with write_transaction(resources.engine) as connection:
        return sessions.sign_in_with_account(
            connection,
            account,
            claim=resources.settings.oidc_claim,
            browser=request.headers.get("user-agent", ""),
            presented=presented_token(request, resources.settings),
        )


@router.get("/sign-out")
async def sign_out(request: Request, resources: ResourcesDep) -> Response:
    """Send the browser to the provider to be signed out there; the session here has ended before."""
    back = f"{_base(request, resources)}/sign-in?out=1"
    address = await _provider(resources).sign_out_address(back)
    return RedirectResponse(address or "/console/sign-in?out=1", 303)


def _base(request: Request, resources: ApiResources) -> str:
    settings = resources.settings
    return f"{origin_of(request, settings)}{settings.root_path}/console"


def _without_address(begun: dict[str, Any]) -> dict[str, Any]:
    """What Authlib keeps of the beginning, without the long address that the browser went to."""
    for state in begun.values():
        state["data"].pop("url", None)
    return begun


def _kept(request: Request, resources: ApiResources) -> dict[str, Any]:
    """What was kept of the beginning; nothing when it is too old, or was not kept here."""
    try:
        kept: dict[str, Any] = json.loads(resources.vault.decrypt(request.cookies.get(COOKIE, "").encode()))
        return kept if kept["until"] > time.time() else {}
    except (SecretUnreadable, ValueError, KeyError, TypeError):
        return {}


def _keep(answer: Response, request: Request, resources: ApiResources, value: str) -> None:
    """Put a value into the cookie, or take the cookie away."""
    answer.set_cookie(
        COOKIE,
        value,
        max_age=SECONDS if value else 0,
        path=f"{resources.settings.root_path}/console/oidc",
        secure=is_secure(request, resources.settings),
        httponly=True,
        samesite="lax",
    )
