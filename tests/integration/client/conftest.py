"""Hookline with the entities and keys of tests/sdk/, and the variables by which a program finds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sdk.conftest import Hookline, hookline, populated, settings, sqlite_template, valkey_url

__all__ = ["hookline", "populated", "settings", "sqlite_template", "valkey_url"]
CLIENT = Path(__file__).parents[3] / "clients" / "python"


@pytest.fixture
def variables(hookline: Hookline, tmp_path: Path) -> dict[str, str]:
    """The environment of a program that publishes for `acme`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HOOKLINE_", "WANDB_"))}
    return {
        **own,
        "PYTHONPATH": str(CLIENT),
        "HOOKLINE_URL": hookline.url,
        "HOOKLINE_API_KEY": hookline.keys["publisher"],
        "HOOKLINE_ENTITY": "acme",
        "HOOKLINE_SPOOL": str(tmp_path / "spool"),
    }
