"""Signing in and out, the entities to choose from, and how the pages look."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from dispatcher.api.resources import ApiResources
from dispatcher.console import preferences
from dispatcher.console.forms import SIGN_IN_BYTES, Form, FormDep, read_form
from dispatcher.console.origins import ROOT, local_path
from dispatcher.console.rendering import render
from dispatcher.console.visitors import (
    ResourcesDep,
    VisitorDep,
    forget,
    is_secure,
    may_sign_in,
    presented_token,
    remember,
)
from dispatcher.control import sessions
from dispatcher.control.catalog import list_entities
from dispatcher.control.errors import Forbidden
from dispatcher.control.paging import MAX_LIMIT, page_request
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter()
_YEAR_SECONDS = 365 * 86_400


async def _sign_in_form(request: Request) -> Form:
    return await read_form(request, SIGN_IN_BYTES)


@router.get("/sign-in")
def sign_in_page(
    request: Request,
    resources: ResourcesDep,
    onward: Annotated[str, Query(alias="next")] = "",
    lost: str = "",
    out: str = "",
) -> Response:
    """The form for an API key, and the way to the identity provider."""
    return door(
        request,
        resources,
        onward=local_path(onward),
        lost=lost == "1",
        out=out in ("1", "account"),
        by_account=out == "account",
    )


def door(
    request: Request,
    resources: ApiResources,
    *,
    onward: str = f"{ROOT}/",
    status: int = 200,
    fault: str = "",
    account_fault: str = "",
    lost: bool = False,
    out: bool = False,
    by_account: bool = False,
) -> Response:
    """The page for signing in, with what was refused."""
    open_to_all = may_sign_in(request, resources.settings)
    return render(
        request,
        "sign_in.html",
        status=status if open_to_all or status == 200 else 403,
        onward=onward,
        lost=lost,
        out=out,
        by_account=by_account,
        fault=fault,
        account_fault=account_fault,
        open=open_to_all,
        provider=resources.settings.oidc_name if resources.identity_provider else "",
    )


@router.post("/sign-in")
def sign_in(request: Request, resources: ResourcesDep, form: Annotated[Form, Depends(_sign_in_form)]) -> Response:
    """Make a session of a key."""
    settings, onward = resources.settings, local_path(form.text("next"))
    if not may_sign_in(request, settings):
        return door(request, resources, onward=onward, status=403)
    try:
        with write_transaction(resources.engine) as connection:
            made = sessions.sign_in(
                connection,
                form.text("key").strip(),
                browser=request.headers.get("user-agent", ""),
                presented=presented_token(request, settings),
            )
        fault = "This key is unknown, revoked or expired."
    except Forbidden as exc:
        made, fault = None, sentence_of(exc)
    if made is None:
        return door(request, resources, onward=onward, status=403, fault=fault)
    answer = RedirectResponse(onward, 303)
    remember(answer, request, settings, made)
    return answer


def sentence_of(refusal: Exception) -> str:
    """What was refused, as a sentence."""
    text = str(refusal)
    return f"{text[:1].upper()}{text[1:]}."


@router.post("/sign-out")
def sign_out(request: Request, resources: ResourcesDep, visitor: VisitorDep) -> Response:
    """End the session."""
    with write_transaction(resources.engine) as connection:
        sessions.sign_out(connection, visitor.opened)
    how = "1" if visitor.opened.session.key_hint else "account"
    answer = RedirectResponse(f"/console/sign-in?out={how}", 303)
    forget(answer, request, resources.settings)
    return answer


@router.get("/")
def entities_page(
    request: Request,
    resources: ResourcesDep,
    visitor: VisitorDep,
    cursor: str | None = None,
    everything: Annotated[str, Query(alias="all")] = "",
) -> Response:
    """The entities in which one has a role; on to the only one."""
    with read_transaction(resources.engine) as connection:
        page = list_entities(connection, visitor.principal, page_request(MAX_LIMIT, cursor))
    if cursor is None and not everything and len(page.items) == 1:
        return RedirectResponse(f"/console/e/{page.items[0].name}", 303)
    return render(request, "entities.html", page=page)


@router.post("/preferences")
def prefer(request: Request, resources: ResourcesDep, form: FormDep) -> Response:
    """Keep how the pages should look."""
    answer = RedirectResponse(local_path(form.text("back")), 303)
    chosen = {preferences.COOKIE: form.text("theme"), preferences.SHORTCUTS_COOKIE: form.text("shortcuts")}
    known = {preferences.COOKIE: preferences.THEMES, preferences.SHORTCUTS_COOKIE: ("on", "off")}
    for cookie, value in chosen.items():
        if value in known[cookie]:
            answer.set_cookie(
                cookie,
                value,
                max_age=_YEAR_SECONDS,
                path=f"{resources.settings.root_path}/console",
                secure=is_secure(request, resources.settings),
                httponly=True,
                samesite="lax",
            )
    return answer
