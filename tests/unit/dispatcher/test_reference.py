"""docs/settings.md is what the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.testing import CliRunner

from dispatcher import reference
from shared.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_committed_page_is_up_to_date() -> None:
    result = CliRunner().invoke(reference.main, ["--check"])
    assert (result.exit_code, result.output) == (0, "")


def test_an_old_page_is_told_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "settings.md"
    monkeypatch.setattr(reference, "PAGE", page)
    for _old in (None, page.write_text("old")):
        result = CliRunner().invoke(reference.main, ["--check"])
        assert result.exit_code == 1
        assert "is out of date: run `make docs`" in result.output
    assert page.read_text() == "old"
    assert CliRunner().invoke(reference.main, []).exit_code == 0
    assert CliRunner().invoke(reference.main, ["--check"]).exit_code == 0


def test_every_setting_has_a_row_in_its_order() -> None:
    rows = [line for line in reference.reference().splitlines() if line.startswith(f"| `{ENV_PREFIX}")]
    assert [row.split("`")[1] for row in rows] == [f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields]
    assert all(row.count(" | ") == 2 for row in rows)


def test_defaults_are_written_as_the_variable_takes_them() -> None:
    page = reference.reference()
    assert "| `HOOKLINE_REDIS_URL` | unset |" in page
    assert "| `HOOKLINE_DISABLE_AFTER` | `5d` |" in page
    assert "| `HOOKLINE_RELOAD_INTERVAL` | `500ms` |" in page
    assert "| `HOOKLINE_ALLOW_HTTP` | `false` |" in page
    assert "| `HOOKLINE_ALLOWED_PORTS` | `80,443,1024-65535` |" in page
    assert "From 1 to 1024. |" in page
    assert "One of `auto`, `console`, `json`. |" in page
