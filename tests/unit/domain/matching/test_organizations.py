"""An organization's automations cover what its teams do, and its projects stay its own."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.matching.index import AutomationIndex, organizations_above
from tests.unit.domain.matching.test_matching import compiled, ids, index_of
from tests.unit.domain.samples import event


def tree() -> AutomationIndex:
    index = index_of(
        compiled(1, "ADD_ARTIFACT_ALIAS", entity="org"),
        compiled(2, "ADD_ARTIFACT_ALIAS", entity="org", scope={"project": "p"}),
        compiled(3, "ADD_ARTIFACT_ALIAS", entity="team"),
        compiled(4, "ADD_ARTIFACT_ALIAS", entity="group"),
        compiled(5, "RUN_STATE", entity="org"),
    )
    index.set_organizations(organizations_above({"team": "org", "org": "group"}))
    return index


def test_an_organization_watches_its_teams_at_any_depth_and_not_the_other_way() -> None:
    assert ids(tree(), event(entity="team", project="p")) == [3, 1, 4]
    assert ids(tree(), event(entity="org", project="p")) == [1, 2, 4]
    assert ids(tree(), event(entity="group", project="p")) == [4]
    assert ids(tree(), event(entity="other")) == []
    assert ids(tree(), event("RUN_STATE", entity="team")) == [5]


def test_a_team_can_move_while_the_index_is_copied() -> None:
    index = tree()
    moved = index.copy()
    moved.set_organizations(organizations_above({"team": "group"}))

    assert ids(moved, event(entity="team")) == [3, 4]
    assert ids(index, event(entity="team")) == [3, 1, 4]
    assert ids(moved.copy(), event(entity="team")) == [3, 4]


names = st.sampled_from("abcdef")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(names, names))
def test_whoever_is_above_is_reached_by_going_up_and_counts_once(parents: dict[str, str]) -> None:
    above = organizations_above(parents)
    assert above.keys() == parents.keys()
    for entity, organizations in above.items():
        assert len(set(organizations)) == len(organizations)
        assert entity not in organizations
        at = entity
        for organization in organizations:
            assert parents[at] == organization
            at = organization
        assert parents.get(at) is None or parents[at] in {entity, *organizations}
