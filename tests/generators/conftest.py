"""Hookline with the entities and keys of tests/sdk/, and its OpenAPI document in a file."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.sdk.conftest import Hookline, hookline, populated, settings, sqlite_template, valkey_url

__all__ = ["hookline", "populated", "settings", "sqlite_template", "valkey_url"]


@pytest.fixture
def document(hookline: Hookline, tmp_path: Path) -> Path:
    """The document as a user would download it."""
    path = tmp_path / "openapi.json"
    path.write_bytes(httpx.get(f"{hookline.url}/openapi.json").raise_for_status().content)
    return path
