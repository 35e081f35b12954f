"""Pages for refusals: what REST answers as a problem document, in words and with a way on."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from dispatcher.api.problems import REFUSALS, Problem, problem_of
from dispatcher.console.rendering import render
from shared.domain.errors import HooklineError

_TITLES = {
    400: "This request can't be understood",
    403: "You may not do this",
    404: "There is nothing here",
    405: "There is nothing here",
    409: "This contradicts what is stored",
    413: "This is too large",
    429: "This is too much at once",
    422: "Something in this request is not right",
    500: "Hookline failed",
    503: "Hookline can't reach a part of itself",
}


class SignInNeeded(HooklineError):
    """Nobody is signed in, or no longer."""


def install(app: FastAPI) -> None:
    """Answer every refusal of the console with a page."""
    app.add_exception_handler(SignInNeeded, _to_sign_in)
    for kind in REFUSALS:
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, exc: Exception) -> Response:
    return failure_page(request, problem_of(exc))


async def _to_sign_in(request: Request, _exc: Exception) -> Response:
    """To the page for signing in, which leads back here; a form that was sent is lost, and the page says so."""
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    query = {"next": path} if request.method == "GET" else {"lost": "1"}
    return RedirectResponse(f"/console/sign-in?{urlencode(query)}", 303)


def failure_page(request: Request, problem: Problem) -> Response:
    """The page that says what was refused. It shows nothing of the entity, since its reader may not see any."""
    return render(
        request,
        "failure.html",
        status=problem.status,
        title=_TITLES.get(problem.status, "This was refused"),
        detail=str(problem),
        faults=[] if problem.status == 422 and len(problem.errors) < 2 else [str(error) for error in problem.errors],
        request_id=getattr(request.state, "request_id", ""),
        headers=problem.headers,
    )
