"""Ids that only their maker reads: whatever the names, they come back, and nothing else is taken for one."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.graphql import opaque_ids

entity_names = st.from_regex(r"[A-Za-z0-9_][-A-Za-z0-9_.]{0,20}", fullmatch=True)
names = st.text(min_size=1, max_size=30).filter(lambda name: name.isprintable())


@given(entity_names, names, names)
def test_names_come_back(entity: str, project: str, collection: str) -> None:
    assert opaque_ids.read_entity_id(opaque_ids.entity_id(entity)) == entity
    assert opaque_ids.read_project_id(opaque_ids.project_id(entity, project)) == (entity, project)
    of_collection = opaque_ids.collection_id(entity, project, collection)
    assert opaque_ids.read_collection_id(of_collection) == (entity, project, collection)


READERS: list[Callable[[str], object]] = [
    opaque_ids.read_entity_id,
    opaque_ids.read_project_id,
    opaque_ids.read_collection_id,
]


@pytest.mark.parametrize("read", READERS)
@given(text=st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_nothing_else_is_taken_for_an_id(read: Callable[[str], object], text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize("inner", ["[]", "{}", '["a","b"]', '["a","b",1]', '["a", "b", "c"]', "[" * 2000])
def test_a_collection_s_id_is_read_strictly(inner: str) -> None:
    text = base64.b64encode(f"ArtifactCollection:{inner}".encode()).decode()
    assert opaque_ids.read_collection_id(text) is None


def test_what_postgresql_can_t_look_for_is_in_no_id() -> None:
    for made, read in (
        (opaque_ids.entity_id("a\0"), opaque_ids.read_entity_id),
        (opaque_ids.project_id("a", "p\0"), opaque_ids.read_project_id),
        (opaque_ids.collection_id("a", "p", "c\0"), opaque_ids.read_collection_id),
    ):
        assert read(made) is None


def test_kinds_are_told_apart() -> None:
    project = opaque_ids.project_id("acme", "p")
    assert opaque_ids.read_entity_id(project) is None
    assert opaque_ids.read_collection_id(project) is None
    assert opaque_ids.read_project_id(opaque_ids.entity_id("acme")) is None
    assert base64.b64decode(opaque_ids.internal_project_id(20)) == b"ProjectInternalId:20"
