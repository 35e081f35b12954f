"""Fields of events: which a filter may name on which type, and what each one reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.events.decoding import check_event
from shared.domain.events.types import ARTIFACT_TYPES, COLLECTION_TAG_TYPES, NOTICE_TYPES, RUN_TYPES, EventType
from shared.domain.filters.fields import field_getter, field_refusal
from shared.domain.filters.filters import MISSING, parse_filter
from tests.unit.domain.samples import Raw, event

EVERYWHERE = {"author", "project"}
OF_COLLECTIONS = {"collection", "artifact_type"}
OF_ARTIFACTS = {"version", "aliases", "tags", "alias", "tag", "metadata.<key>"}
OF_RUNS = {"display_name", "run.<key>", "config.<key>"}
OF_ALERTS = {"title", "text", "level"}
OF_NOTICES = {"author", "webhook", "reason"}
OF_UNMATCHED = {"author", "automation", "reason"}
OF_DEAD_LETTERS = {"automation", "status", "event_type"}
ALL = EVERYWHERE | OF_COLLECTIONS | OF_ARTIFACTS | OF_RUNS | OF_ALERTS | OF_NOTICES | OF_DEAD_LETTERS
FIELDS: dict[EventType, set[str]] = {
    **dict.fromkeys(ARTIFACT_TYPES, EVERYWHERE | OF_COLLECTIONS | OF_ARTIFACTS),
    **dict.fromkeys(COLLECTION_TAG_TYPES, EVERYWHERE | OF_COLLECTIONS | {"tag"}),
    **dict.fromkeys(RUN_TYPES, EVERYWHERE | OF_RUNS),
    EventType.RUN_ALERT: EVERYWHERE | OF_RUNS | OF_ALERTS,
    **dict.fromkeys(NOTICE_TYPES, OF_NOTICES),
    EventType.DEAD_LETTER: OF_NOTICES | OF_DEAD_LETTERS,
    EventType.AUTOMATION_UNMATCHED: OF_UNMATCHED,
}


def read(raw: Raw, name: str) -> object:
    checked = check_event(raw)
    return field_getter(checked.type, name)(checked)


def holds(raw: Raw, expression: dict[str, Any]) -> bool:
    checked = check_event(raw)
    parsed = parse_filter(expression, lambda name: field_refusal(checked.type, name))
    return parsed.compile(lambda name: field_getter(checked.type, name))(checked)


@pytest.mark.parametrize("event_type", EventType)
def test_a_filter_may_name_the_fields_of_its_event_type_and_no_others(event_type: EventType) -> None:
    accepted = FIELDS[event_type]
    for name in ALL:
        refusal = field_refusal(event_type, name.replace("<key>", "some key"))
        if name in accepted:
            assert refusal is None
        else:
            assert refusal is not None
            head, listed = refusal.split("; accepted: ")
            assert head == f"{event_type} events have no field {name.replace('<key>', 'some key')!r}"
            assert set(listed.split(", ")) == accepted


@pytest.mark.parametrize(
    "name", ["", "metadata", "metadata.", "run", "run.", "config.", "Alias", "alias ", "entity", "$or"]
)
@pytest.mark.parametrize("event_type", EventType)
def test_what_looks_like_a_field_is_none(event_type: EventType, name: str) -> None:
    assert field_refusal(event_type, name) is not None
    if name not in ("metadata.", "run.", "config."):
        with pytest.raises(KeyError):
            field_getter(event_type, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("author", "alice"),
        ("project", "wandb-registry-model"),
        ("collection", "llm-models"),
        ("artifact_type", "model"),
        ("version", "v3"),
        ("aliases", ("v3",)),
        ("tags", ()),
        ("metadata.model_type", "llm"),
    ],
)
@pytest.mark.parametrize("event_type", sorted(ARTIFACT_TYPES))
def test_fields_of_artifact_events(event_type: EventType, name: str, value: object) -> None:
    assert read(event(event_type), name) == value


@pytest.mark.parametrize("event_type", ["CREATE_ARTIFACT", "LINK_ARTIFACT", "UNLINK_ARTIFACT"])
def test_alias_and_tag_stand_for_any_of_the_version_where_the_event_has_none(event_type: str) -> None:
    raw = event(event_type, artifact={"id": "a", "aliases": ["v3", "prod"], "tags": ["eval", "safe"]})
    assert read(raw, "alias") == ("v3", "prod")
    assert holds(raw, {"alias": "prod"})
    assert holds(raw, {"alias": {"$regex": "^pr"}})
    assert holds(raw, {"tag": {"$in": ["safe", "other"]}})
    assert not holds(raw, {"alias": "latest"})
    assert not holds(event(event_type, artifact={"id": "a"}), {"alias": {"$regex": ""}})


def test_the_alias_or_tag_of_an_event_is_the_one_it_is_about() -> None:
    for event_type in ("ADD_ARTIFACT_ALIAS", "REMOVE_ARTIFACT_ALIAS"):
        raw = event(event_type, alias="prod", artifact={"id": "a", "aliases": ["v3"], "tags": ["eval"]})
        assert (read(raw, "alias"), read(raw, "aliases"), read(raw, "tag")) == ("prod", ("v3",), ("eval",))
    for event_type in ("ADD_ARTIFACT_TAG", "REMOVE_ARTIFACT_TAG"):
        raw = event(event_type, tag="safe", artifact={"id": "a", "aliases": ["v3"], "tags": ["eval"]})
        assert (read(raw, "alias"), read(raw, "tags"), read(raw, "tag")) == (("v3",), ("eval",), "safe")
    for event_type in ("ADD_COLLECTION_TAG", "REMOVE_COLLECTION_TAG"):
        assert read(event(event_type, tag="safe"), "tag") == "safe"


METADATA = {
    "a.b": "whole",
    "a": {"b": "path", "c": {"d": [1, 2]}, "e.f": "tail"},
    "n": None,
    "f": 0.5,
    "": "blank",
    "x.": "dotted",
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("a.b", "whole"),
        ("a", METADATA["a"]),
        ("a.c.d", [1, 2]),
        ("a.e.f", "tail"),
        ("n", None),
        ("f", 0.5),
        ("x.", "dotted"),
        ("a.c.d.0", MISSING),
        ("a.z", MISSING),
        ("n.x", MISSING),
        ("f.x", MISSING),
        ("z", MISSING),
        (".", MISSING),
        ("a.", MISSING),
        (".a", MISSING),
    ],
)
def test_a_key_is_looked_up_whole_and_then_as_a_path(key: str, value: object) -> None:
    assert read(event("LINK_ARTIFACT", artifact={"id": "a", "metadata": METADATA}), f"metadata.{key}") == value
    assert read(event("RUN_STATE", run={"id": "r", "config": METADATA}), f"config.{key}") == value
    assert read(event("RUN_STATE", run={"id": "r", **METADATA}), f"run.{key}") == value


def test_a_run_shows_the_members_that_the_event_has() -> None:
    sparse = event("RUN_STATE", run={"id": "r"})
    assert read(sparse, "run.id") == "r"
    for name in ("name", "display_name", "config", "group"):
        assert read(sparse, f"run.{name}") is MISSING
        assert not holds(sparse, {f"run.{name}": {"$exists": True}})
    full = event("RUN_STATE", run={"id": "r", "name": "", "display_name": None, "config": {"lr": 0.1}, "group": None})
    for name in ("name", "display_name", "config", "group"):
        assert holds(full, {f"run.{name}": {"$exists": True}})
    assert holds(full, {"run.group": None})
    assert read(full, "run.config.lr") == 0.1


@pytest.mark.parametrize(
    ("run", "shown"),
    [
        ({"id": "r"}, ""),
        ({"id": "r", "name": "n"}, "n"),
        ({"id": "r", "name": "n", "display_name": None}, "n"),
        ({"id": "r", "name": "n", "display_name": "d"}, "d"),
        ({"id": "r", "name": "n", "display_name": ""}, ""),
    ],
)
def test_the_display_name_falls_back_on_the_name(run: Raw, shown: str) -> None:
    assert read(event("RUN_METRIC", run=run), "display_name") == shown


@pytest.mark.parametrize("event_type", sorted(NOTICE_TYPES - {EventType.AUTOMATION_UNMATCHED}))
def test_fields_of_notices(event_type: EventType) -> None:
    raw = event(event_type)
    assert (read(raw, "webhook"), read(raw, "author")) == ("deploy-hook", "alice")
    assert holds(raw, {"webhook": "deploy-hook", "reason": {"$regex": "404$"}})


def test_fields_of_automations_that_could_not_be_matched() -> None:
    raw = event("AUTOMATION_UNMATCHED")
    assert (read(raw, "automation"), read(raw, "author")) == ("deploy", "alice")
    assert holds(raw, {"reason": {"$contains": "too much"}})


def test_fields_of_dead_letters() -> None:
    raw = event("DEAD_LETTER")
    assert (read(raw, "automation"), read(raw, "status")) == ("deploy", "refused")
    assert holds(raw, {"event_type": {"$in": ["ADD_ARTIFACT_ALIAS"]}})


keys = st.text(st.sampled_from("ab."), min_size=1, max_size=6)
trees = st.recursive(st.integers(-9, 9), lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)


@settings(max_examples=100)
@given(st.dictionaries(keys, trees, max_size=4), keys)
def test_reading_a_key_finds_what_a_plain_search_finds(metadata: dict[str, Any], key: str) -> None:
    def search(values: object, wanted: str) -> object:
        if not isinstance(values, dict):
            return MISSING
        if wanted in values:
            return values[wanted]
        head, dot, rest = wanted.partition(".")
        return search(values.get(head, MISSING), rest) if dot else MISSING

    assert read(event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": metadata}), f"metadata.{key}") == search(
        metadata, key
    )


def test_deep_values_and_long_paths_do_no_harm() -> None:
    deep: Any = "bottom"
    for _ in range(150):
        deep = {"a": deep}
    raw = event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": deep})
    assert read(raw, "metadata." + ".".join(["a"] * 150)) == "bottom"
    assert read(raw, "metadata." + ".".join(["a"] * 5000)) is MISSING
