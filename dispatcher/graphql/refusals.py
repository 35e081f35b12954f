"""The HTTP status and the messages of each refusal, whoever raised it: what REST answers, in GraphQL's form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatcher.api.problems import problem_of
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
    messages = tuple(str(error) for error in problem.errors) if problem.status == 422 else ()
    return Refusal(problem.status, messages or (str(problem),), problem.headers)
