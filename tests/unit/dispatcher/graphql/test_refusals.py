"""Refusals in GraphQL's form: the status that REST would answer, and a message for each field."""

from __future__ import annotations

import pytest
from graphql import GraphQLError, build_schema, execute_sync, parse, validate
from sqlalchemy.exc import OperationalError

from dispatcher.api.problems import Problem
from dispatcher.control.errors import Conflict, Forbidden, NotFound
from dispatcher.graphql.refusals import refusal_of, without_values
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


SCHEMA = build_schema("""
    type Query { f(a: Int, b: In, e: Enum, s: String): Int }
    input In { x: Int! y: String }
    enum Enum { ONE TWO }
""")
REPEATING = (
    '{f(a: "s3cret")}',
    "{f(e: s3cret)}",
    "{f(s: s3cret)}",
    '{f(b: "s3cret; at, found: x")}',
    '{f(b: {x: "s3cret"})}',
    '{f(b: {y: "s3cret", z: "s3cret"})}',
    '{f "s3cret"}',
    '"s3cret" {f}',
    "{f(a: 1) 's3cret'}",
    '{f(s: "\\us3cret")}',
)
VARIABLES: tuple[dict[str, object], ...] = (
    {"a": "s3cret"},
    {"b": "s3cret"},
    {"b": {"x": "s3cret: value: found x"}},
    {"b": {"y": "s3cret"}},
    {"b": {"x": 1, "z": ["s3cret"]}},
    {"e": "s3cret"},
    {"s": ["s3cret"]},
)


@pytest.mark.parametrize("document", REPEATING)
def test_a_refused_document_is_not_repeated(document: str) -> None:
    try:
        errors = validate(SCHEMA, parse(document))
    except GraphQLError as exc:
        errors = [exc]
    assert errors
    for error in errors:
        assert "s3cret" not in without_values(error.message)


@pytest.mark.parametrize("variables", VARIABLES, ids=str)
def test_a_refused_variable_is_not_repeated(variables: dict[str, object]) -> None:
    document = parse("query($a: Int, $b: In, $e: Enum, $s: String) { f(a: $a, b: $b, e: $e, s: $s) }")
    errors = execute_sync(SCHEMA, document, variable_values=variables).errors
    assert errors
    for error in errors:
        shown = without_values(error.message)
        assert "s3cret" not in shown
        assert next(iter(variables)) in shown


def test_other_messages_are_left_as_they_are() -> None:
    (error,) = validate(SCHEMA, parse("{nothing}"))
    assert without_values(error.message) == "Cannot query field 'nothing' on type 'Query'."
