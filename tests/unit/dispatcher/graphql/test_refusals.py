"""Refusals in GraphQL's form: the status that REST would answer, and a message for each field."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from dispatcher.api.problems import Problem
from dispatcher.control.errors import Conflict, Forbidden, NotFound
from dispatcher.graphql.refusals import refusal_of
from shared.domain.errors import FieldError, InvalidDefinition


@pytest.mark.parametrize(
    ("raised", "status", "messages"),
    [
        (InvalidDefinition(FieldError(("a", 0), "x"), FieldError((), "y")), 422, ("a.0: x", "y")),
        (NotFound("gone"), 404, ("gone",)),
        (Forbidden("no", FieldError(("a",), "x")), 403, ("no",)),
        (Conflict("taken", FieldError(("name",), "x")), 409, ("taken",)),
        (Problem(415, "unsupported-media-type", "json only"), 415, ("json only",)),
    ],
)
def test_each_refusal_has_its_status(raised: Exception, status: int, messages: tuple[str, ...]) -> None:
    refusal = refusal_of(raised)
    assert (refusal.status, refusal.messages) == (status, messages)


def test_a_database_that_is_away_is_asked_for_again() -> None:
    refusal = refusal_of(OperationalError("SELECT 1", {}, Exception("s3cret")))
    assert (refusal.status, refusal.headers["Retry-After"]) == (503, "1")
    assert "s3cret" not in str(refusal)


def test_a_bug_says_nothing_of_what_it_was_about() -> None:
    refusal = refusal_of(RuntimeError("s3cret"))
    assert refusal.status == 500
    assert refusal.messages == ("Hookline failed to handle this request; its log says why",)
