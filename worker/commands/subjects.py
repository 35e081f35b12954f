"""How a command takes the one thing that it is about: `NAME`, `ENTITY NAME`, or `NAME --entity ENTITY`, everywhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

Command = Callable[..., Any]
Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def about(subject: str, complete: Complete, *, then: str | None = None) -> Callable[[Command], Command]:
    """Give a command the parameters `subject`, an id or a name, and `entity`, which is None where it is not said.

    Args:
        subject: what the command is about, in the singular, such as `webhook`.
        complete: what a shell completes.
        then: one more argument behind it, such as the name of a secret.
    """

    metavar = " ".join(["[ENTITY]", *(word.upper() for word in (subject, then) if word is not None)])

    def decorate(command: Command) -> Command:
        @wraps(command)
        def called(**given: Any) -> Any:
            *before, name = given[subject]
            if then is not None:
                if not before:
                    raise click.UsageError(f"Missing argument '{then.upper()}'.")
                given[then] = name
                *before, name = before
            if len(before) > 1:
                raise click.UsageError(f"one {subject} at a time: give {metavar}")
            if before and given["entity"] is not None:
                raise click.UsageError("the entity is given twice, before the name and by --entity")
            entity = before[0] if before else given["entity"]
            return command(**{**given, subject: name, "entity": entity})

        option = click.option("--entity", help="The entity; needed if several have one of this name.")
        argument = click.argument(subject, nargs=-1, required=True, metavar=metavar, shell_complete=complete)
        return argument(option(called))

    return decorate
