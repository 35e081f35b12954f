"""What open pages ask for again and again: whether there is anything new. Mostly nothing is: the answer is 204."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from dispatcher.console import preferences
from dispatcher.console.alerts import version_of
from dispatcher.console.entities import EntityDep
from dispatcher.console.forms import FormDep
from dispatcher.console.listing import ListUrl, list_url
from dispatcher.console.origins import local_path
from dispatcher.console.pages.deliveries import FILTERS
from dispatcher.console.preferences import preferences_of
from dispatcher.console.quiet import QuietEntities
from dispatcher.console.rendering import query, render
from dispatcher.console.visitors import ResourcesDep, VisitorDep, is_secure, presented_token, visitor_of
from dispatcher.control import deliveries
from dispatcher.control.access import Action, require
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import MAX_ROW_NUMBER
from shared.storage.database.transactions import read_transaction
from shared.storage.delivery.history import newest_seq

router = APIRouter()
MAX_NEWS = 20
"""So many new rows are counted: then it is enough to know that there are many."""
STEADY = ("automation", "webhook", "event", "project", "collection", "run")
"""Filters that a delivery matches for ever or never: what was counted need not be looked at again."""
_DAY_SECONDS = 86_400


Number = Annotated[int, Query(ge=0, le=MAX_ROW_NUMBER)]


@router.get("/e/{entity}/deliveries/news")
def delivery_news(
    entity: str,
    request: Request,
    resources: ResourcesDep,
    after: Number = 0,
    known: Number = 0,
    counted: Annotated[int | None, Query(ge=0, le=MAX_NEWS)] = None,
) -> Response:
    """How many deliveries match that are newer than the page; nothing if as many were told already.

    An answer without news says in `Content-Location` what to ask next, so that nothing is looked at twice.

    Args:
        after: the number of the entity's newest delivery when the page was made.
        known: the same when it asked last.
        counted: how many of those up to `known` match; None where all since `after` are to be counted anew.
    """
    quiet: QuietEntities = request.app.state.quiet
    token, url = presented_token(request, resources.settings) or "", list_url(request, FILTERS)
    admitted = quiet.admitted(token, entity)
    if admitted is not None:
        with read_transaction(resources.engine) as connection:
            newest = newest_seq(connection, admitted)
        quiet.remember_newest(entity, newest)
        if newest <= known:
            return Response(status_code=204)
    principal = visitor_of(request, resources).principal
    try:
        with read_transaction(resources.engine) as connection:
            stored = require(connection, principal, entity, Action.READ)
            newest = newest_seq(connection, stored.id)
            quiet.admit(token, entity, stored.id)
            quiet.remember_newest(entity, newest)
            if newest <= known:
                return Response(status_code=204)
            told, start = 0, after
            if counted is not None and set(url.given) <= set(STEADY):
                told, start = counted, max(known, after)
            count = told + deliveries.count_newer(
                connection, principal, entity, url.given, after=start, limit=MAX_NEWS + 1 - told
            )
    except InvalidDefinition:
        return Response(status_code=204)
    shown = ListUrl(f"/console/e/{entity}/deliveries", url.filters, "")
    if count == counted:
        onward = f"{shown.path}/news{query({**url.given, 'after': after, 'known': newest, 'counted': count})}"
        return Response(status_code=204, headers={"Content-Location": f"{resources.settings.root_path}{onward}"})
    return render(request, "news.html", count=count, most=MAX_NEWS, url=shown, after=after, newest=newest)


@router.get("/e/{entity}/alerts")
def alerts(request: Request, visit: EntityDep, seen: str = "") -> Response:
    """The alerts, unless they are those that the page shows."""
    if version_of(visit.frame.alerts) == seen:
        return Response(status_code=204)
    return render(request, "alerts.html", alerts=visit.frame.alerts)


@router.post("/alerts/hide")
def hide_alert(request: Request, resources: ResourcesDep, _visitor: VisitorDep, form: FormDep) -> Response:
    """Take an alert away, on this browser."""
    answer = RedirectResponse(local_path(form.text("back")), 303)
    if not preferences.is_alert_key(form.text("key")):
        return answer
    hidden = [*preferences_of(request).hidden_alerts, form.text("key")]
    answer.set_cookie(
        preferences.HIDDEN_COOKIE,
        ".".join(dict.fromkeys(hidden[-preferences.MAX_HIDDEN :])),
        max_age=30 * _DAY_SECONDS,
        path=f"{resources.settings.root_path}/console",
        secure=is_secure(request, resources.settings),
        httponly=True,
        samesite="lax",
    )
    return answer
