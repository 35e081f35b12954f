"""Names in events for what MLflow names otherwise."""

from __future__ import annotations

from hookline.values import clean_name


def tag_name(key: str, value: str | None) -> str:
    """One text for MLflow's key and value: `key:value`, or the key where there is no value."""
    return clean_name(f"{key}:{value}" if value else key)


def artifact_id(name: str, version: int | str) -> str:
    """The id of a model version: its URI."""
    return clean_name(f"models:/{name}/{version}")
