"""Who saves a form must have seen the last edit of what it is about."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from dispatcher.console.forms import Form
from dispatcher.control.errors import Conflict
from shared.storage.definitions.revisions import lock_edits


class ChangedMeanwhile(Conflict):
    """Somebody else saved an edit after the form was opened."""


def refuse_if_changed(connection: Connection, form: Form, what: str, current: Callable[[], int]) -> None:
    """Hold the caller's transaction to the revision that the form was opened with, and other edits off until it ends.

    `current` looks the revision up once nobody else edits: two who save at the same moment must not both find it
    unchanged. `what` is the thing's word.

    Raises:
        ChangedMeanwhile: when it is another.
    """
    lock_edits(connection)
    if form.text("revision") != str(current()):
        raise ChangedMeanwhile(f"somebody else changed this {what} meanwhile: look at it again before you save")
