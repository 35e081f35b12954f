"""The page that asks whether to delete something, and says why it can't be deleted."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request, Response

from dispatcher.console.forms import Faults
from dispatcher.console.rendering import render


def deletion_page(
    request: Request,
    faults: Faults,
    *,
    what: str,
    name: str,
    section: str,
    words: str,
    back: str,
    trail: Sequence[tuple[str, str]],
    users: Sequence[str] = (),
) -> Response:
    """The page; with status 409 after a deletion was refused.

    Args:
        request: the one to answer.
        faults: why it was refused; none where nobody has tried.
        what: the kind of thing, in words.
        name: the thing's own.
        section: the section of the menu that it belongs to.
        words: what goes with it, and what stays.
        back: where *Cancel* leads.
        trail: the pages above, each with its path.
        users: what uses it; while there is any, nothing can be confirmed.
    """
    return render(
        request,
        "delete.html",
        status=409 if faults.all else 200,
        what=what,
        name=name,
        section_of=section,
        words=words,
        users=users,
        back=back,
        trail=trail,
        faults=faults,
    )
