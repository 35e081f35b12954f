"""Refusals of the layers around the application: a problem document to programs, a page to people."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from dispatcher.api import problems
from dispatcher.api.problems import Problem

CONSOLE = "/console/"
"""Where the console's pages are."""
REFUSAL = "refusal"
"""The member of a request's state in which the console finds what a layer before it refused."""


async def refuse(app: ASGIApp, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with a refusal. For a page the application is asked, since it knows how pages look."""
    if scope["path"].startswith(CONSOLE) and scope["app"].state.settings.console:
        scope.setdefault("state", {})[REFUSAL] = problem
        await app(scope, receive, send)
    else:
        await problems.answer(problem)(scope, receive, send)
