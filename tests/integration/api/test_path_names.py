"""Projects and collections whose names have characters that paths must escape."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.integration.api.conftest import Api, automation

ACME = "/v1/entities/acme"
NAMES = ["team/model", "a/b/c", "/", "a%2Fb", "a b?c#d", "modèle-🦊", "..", "a\\b", "x" * 512]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_registered_and_listed(api: Api, name: str) -> None:
    project = f"{ACME}/projects/{quote(name, safe='').replace('.', '%2E')}"
    assert api.ok("PUT", project, {"description": "d"})["name"] == name
    collection = f"{project}/collections/{quote(name, safe='').replace('.', '%2E')}"
    made = api.ok("PUT", collection, {"type": "model"})
    assert (made["project"], made["name"]) == (name, name)
    assert [one["name"] for one in api.ok("GET", f"{project}/collections")["items"]] == [name]
    assert name in [one["name"] for one in api.ok("GET", f"{ACME}/projects")["items"]]
    definition = automation("a", scope={"project": name, "collection": name}, action={"no_op": True})
    assert api.ok("POST", f"{ACME}/automations", definition, status=201)["scope"]["project"] == name
    assert len(api.ok("GET", f"{project}/collections")["items"]) == 1


def test_a_slash_that_is_not_escaped_still_separates(api: Api) -> None:
    api.refused("PUT", f"{ACME}/projects/team/model", {}, status=404)
    for control in ("%1F", "%1f", "%1E", "a%1Fb%2Fc"):
        assert api.refused("PUT", f"{ACME}/projects/{control}", {}, status=422).locs == [["project"]]
    api.refused("GET", "/v1%2Fentities", status=404)
    api.refused("GET", f"{ACME}%2Fprojects", status=404)
    assert api.ok("GET", f"{ACME}/projects")["items"] == []
