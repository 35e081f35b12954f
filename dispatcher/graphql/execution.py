"""Runs one GraphQL document in one transaction, within bounds, and gives refusals the HTTP status they belong to.

The `wandb` client tells a conflict (409) and a missing thing (404) by the status alone, so an error is never answered
with 200. Versions up to 0.26 repeat what is answered with any 4xx but these, 400, 401 and 403, for half a minute, so
nothing that they need not repeat is. A mutation of which any part is refused changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from ariadne import ScalarType, load_schema_from_path, make_executable_schema
from ariadne.validation import cost_validator
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    KnownFragmentNamesRule,
    MiddlewareManager,
    NoFragmentCyclesRule,
    OperationType,
    execute_sync,
    get_named_type,
    get_nullable_type,
    get_operation_ast,
    is_list_type,
    parse,
    specified_rules,
    validate,
)

from dispatcher.api.resources import ApiResources
from dispatcher.graphql import catalog, catalog_pages, mutations, projects, runs, triggers, viewer
from dispatcher.graphql.budget import Budget, OverBudget
from dispatcher.graphql.client_versions import NEWEST, ClientVersion
from dispatcher.graphql.refusals import Refusal, refusal_of, without_values
from dispatcher.graphql.session import Session
from shared.domain.json_values import refuse_unfit
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction, write_transaction

MAX_TOKENS = 2000
"""How long a document may be; the client's longest has some 250 tokens. Checking costs the square of this."""
MAX_COST = 500
"""How many fields a document may ask for, fragments unfolded. A list counts as `LIST_COST`."""
LIST_COST = 10
"""About how many single rows one list reads at least. The client's documents have six lists at most."""

_TOLD_APART = frozenset({401, 403, 404, 409, 429})
"""The statuses below 500 that clients tell from 400, and do not repeat; but for 429, which is there to be repeated."""
_WRITTEN_NUL = re.compile(r"\\u(?:0000|\{0+\})")
_PARTS = (viewer, catalog, catalog_pages, projects, triggers, mutations)
_date_time = ScalarType("DateTime", serializer=datetime.isoformat)


def _schema(files: Sequence[str], parts: Sequence[ModuleType]) -> GraphQLSchema:
    return make_executable_schema(
        [load_schema_from_path(str(Path(__file__).with_name(file))) for file in files],
        [*(bindable for part in parts for bindable in part.BINDABLES), _date_time],
        convert_names_case=True,
    )


SCHEMA = _schema(["schema.graphql"], _PARTS)
SCHEMA_WITH_RUNS = _schema(["schema.graphql", "runs.graphql"], [*_PARTS, runs])


def _list_costs() -> dict[str, dict[str, dict[str, int]]]:
    """The costs of the fields that read lists, by type and field."""
    objects = {
        name: kind.fields
        for name, kind in SCHEMA.type_map.items()
        if isinstance(kind, GraphQLObjectType) and not name.startswith("__") and not name.endswith("Connection")
    }
    return {
        type_name: {
            name: {"complexity": LIST_COST}
            for name, member in fields.items()
            if is_list_type(get_nullable_type(member.type)) or get_named_type(member.type).name.endswith("Connection")
        }
        for type_name, fields in objects.items()
    }


_LIST_COSTS = _list_costs()


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer."""

    status: int
    body: dict[str, Any]
    events: tuple[dict[str, Any], ...] = ()
    """To publish before it is answered: of runs that the document began or changed."""


class _Refused(Exception):
    """Rolls the transaction back."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


def answer_to(
    resources: ApiResources,
    principal: Principal,
    body: object,
    client: ClientVersion = NEWEST,
    base_url: str = "",
) -> Answer:
    """The answer to a request's decoded body. Blocks.

    Raises:
        InvalidDefinition: for variables that no database can hold.
    """
    try:
        request = _Request.of(body)
        document = parse(request.query, max_tokens=MAX_TOKENS)
        schema = SCHEMA_WITH_RUNS if resources.settings.wandb_runs else SCHEMA
        request.check(schema, document)
    except GraphQLError as exc:
        return refused(400, [without_values(exc.message)])
    except RecursionError:
        return refused(400, ["the document nests too deeply"])
    writes = _writes(document, request.operation_name)
    transaction = write_transaction(resources.engine) if writes else read_transaction(resources.engine)
    try:
        with closing(Budget(writes=writes)) as budget, transaction as connection:
            session = Session(connection, principal, resources.checks, client, budget, base_url)
            return _executed(schema, session, request, document)
    except _Refused as exc:
        return exc.answer
    except OverBudget as exc:
        return refused(400, [str(exc)])


def refused(status: int, messages: Iterable[str], data: dict[str, Any] | None = None) -> Answer:
    """A refusal in the form in which the client looks for messages; `extensions` has the status that REST answers."""
    errors = [{"message": message, "extensions": {"status": status}} for message in messages]
    answered = status if status in _TOLD_APART or status >= 500 else 400
    return Answer(answered, {"errors": errors} | ({} if data is None else {"data": data}))


@dataclass(frozen=True, slots=True)
class _Request:
    query: str
    variables: dict[str, Any] | None
    operation_name: str | None

    @classmethod
    def of(cls, body: object) -> _Request:
        if not isinstance(body, Mapping) or not isinstance(body.get("query"), str):
            raise GraphQLError("the body must be a JSON object with query, and perhaps variables and operationName")
        variables, name = body.get("variables"), body.get("operationName")
        refuse_unfit({"variables": variables})
        if _WRITTEN_NUL.search(body["query"]):
            raise GraphQLError("a document must not hold U+0000")
        if not isinstance(variables, dict | None) or not isinstance(name, str | None):
            raise GraphQLError("variables must be an object, and operationName text")
        return cls(body["query"], variables, name or None)  # the client sends "" where it has no name

    def check(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        cost = cost_validator(maximum_cost=MAX_COST, default_cost=1, variables=self.variables, cost_map=_LIST_COSTS)
        # What is cheap to check first, and what the next check takes for granted.
        for rules in ([NoFragmentCyclesRule, KnownFragmentNamesRule], [cost], specified_rules):
            for error in validate(schema, document, rules):
                if schema is SCHEMA_WITH_RUNS and (why := runs.why_not(document)) is not None:
                    raise GraphQLError(why)
                raise error
        if get_operation_ast(document, self.operation_name) is None:
            raise GraphQLError("operationName must name one of the document's operations when it has several")


def _writes(document: DocumentNode, name: str | None) -> bool:
    operation = get_operation_ast(document, name)
    return operation is not None and operation.operation is OperationType.MUTATION


def _executed(schema: GraphQLSchema, session: Session, request: _Request, document: DocumentNode) -> Answer:
    result = execute_sync(
        schema,
        document,
        context_value=session,
        variable_values=request.variables,
        operation_name=request.operation_name,
        middleware=MiddlewareManager(session.budget),
    )
    if result.errors:
        raise _Refused(_refusal(result.errors, result.data))
    return Answer(200, {"data": result.data}, tuple(session.events))


def _refusal(errors: Iterable[GraphQLError], data: dict[str, Any] | None) -> Answer:
    """All messages, under the status of the gravest refusal: a fault on this side before any of the sender's."""
    refusals = [
        refusal_of(error.original_error)
        if error.original_error is not None and not isinstance(error.original_error, GraphQLError)
        else Refusal(400, (without_values(error.message),))
        for error in errors
    ]
    worst = next((each for each in refusals if each.status >= 500), refusals[0])
    return refused(worst.status, [message for each in refusals for message in each.messages], data)
