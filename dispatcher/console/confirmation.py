"""The page that asks before something is lost: it names what, and says why it can't be done where it can't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.forms import Faults
from dispatcher.console.refusals import attempt
from dispatcher.console.rendering import render
from shared.storage.database.transactions import write_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a page asks."""

    what: str
    """The kind of thing, in words."""
    name: str
    """The thing's own."""
    section: str
    """The section of the menu that it belongs to."""
    words: str
    """What goes with it, and what stays."""
    back: str
    """Where *Cancel* leads."""
    trail: Sequence[tuple[str, str]]
    """The pages above, each with its path."""
    users: Sequence[str] = ()
    """What uses it; while there is any, nothing can be confirmed."""
    verb: str = "Delete"
    """What the button says."""
    facts: Sequence[tuple[str, str]] = ()
    """What tells it from others like it."""
    icon: str = "trash-2"


def ask(request: Request, question: Question, faults: Faults | None = None) -> Response:
    """The page; with status 409 after it was tried and refused."""
    return render(
        request,
        "confirm.html",
        status=409 if faults is not None and faults.all else 200,
        question=question,
        faults=faults or Faults(),
    )


def act_or_ask_again(
    request: Request,
    resources: ApiResources,
    act: Callable[[Connection], object],
    question: Callable[[], Question],
    led_to: str,
) -> Response:
    """Do what was confirmed and lead on, or show the question again with why it was refused."""

    def acted() -> None:
        with write_transaction(resources.engine) as connection:
            act(connection)

    if isinstance(faults := attempt(acted, ()), Faults):
        return ask(request, question(), faults)
    resources.callers.clear()
    return RedirectResponse(led_to, 303)
