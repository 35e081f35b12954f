"""The HTTP status and the messages of each refusal, whoever raised it: what REST answers, in GraphQL's form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatcher.api.problems import first_errors, problem_of
from shared.observability.logs import get_logger

log = get_logger("hookline.graphql")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status and at least one message: one for each field that is named, since the client shows messages alone."""

    status: int
    messages: tuple[str, ...]
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal_of(exc: Exception) -> Refusal:
    """What to answer when this was raised. A bug is logged here, where it was."""
    problem = problem_of(exc)
    if problem.kind == "internal":
        log.error("graphql.failed", exc_info=exc)
    messages = tuple(map(str, first_errors(problem.errors))) if problem.status == 422 else ()
    return Refusal(problem.status, messages or (str(problem),), problem.headers)


_REPEATED = tuple(
    (re.compile(pattern, re.DOTALL), without)
    for pattern, without in (
        (r"(cannot represent .*?value): .*", r"\1."),
        (r",? [Ff]ound:? .*", "."),
        (r"Value '.*' does not exist in", "The value does not exist in"),
        (r"(Syntax Error: Unexpected \w+)\b.*", r"\1."),
        (r"(Syntax Error: Invalid [\w ]+): .*", r"\1."),
    )
)


def without_values(message: str) -> str:
    """A message of graphql-core without the values that were sent, any of which may be a secret."""
    for repeated, without in _REPEATED:
        message = repeated.sub(without, message)
    return message
