"""Hookline with the entities and keys of tests/sdk/."""

from __future__ import annotations

from tests.sdk.conftest import hookline, populated, settings, sqlite_template, valkey_url

__all__ = ["hookline", "populated", "settings", "sqlite_template", "valkey_url"]
