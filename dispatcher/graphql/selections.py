"""What a document selects: lists leave out what the asking client has no fields for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from graphql import FieldNode, FragmentSpreadNode, GraphQLObjectType, InlineFragmentNode, SelectionSetNode
from graphql.execution.values import get_argument_values

from dispatcher.graphql.session import Info


def reads_all_of(info: Info, path: tuple[str, ...] = ()) -> bool:
    """Whether the document asks for `filter(allOf: true)` of the automations at this path."""
    field = cast("GraphQLObjectType", info.schema.type_map["FilterEventTriggeringCondition"]).fields["filter"]
    return any(
        get_argument_values(field, node, info.variable_values)["all_of"]
        for each in selected(info, (*path, "triggeringCondition"))
        for node in _fields(info, each)
        if node.name.value == "filter"
    )


def selected(info: Info, path: tuple[str, ...]) -> list[SelectionSetNode | None]:
    """What the document selects at this path below the field that is being resolved, if it has the path at all."""
    selected = [node.selection_set for node in info.field_nodes]
    for name in path:
        selected = [node.selection_set for each in selected for node in _fields(info, each) if node.name.value == name]
    return selected


def type_conditions(info: Info, selection_set: SelectionSetNode | None) -> Iterator[str]:
    """The types for which it has fields of their own there."""
    for selection in selection_set.selections if selection_set else ():
        if isinstance(selection, FragmentSpreadNode):
            yield info.fragments[selection.name.value].type_condition.name.value
        elif isinstance(selection, InlineFragmentNode) and selection.type_condition is not None:
            yield selection.type_condition.name.value


def _fields(info: Info, selection_set: SelectionSetNode | None) -> Iterator[FieldNode]:
    for selection in selection_set.selections if selection_set else ():
        if isinstance(selection, FieldNode):
            yield selection
        elif isinstance(selection, FragmentSpreadNode):
            yield from _fields(info, info.fragments[selection.name.value].selection_set)
        elif isinstance(selection, InlineFragmentNode):
            yield from _fields(info, selection.selection_set)
