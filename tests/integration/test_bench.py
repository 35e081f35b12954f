"""`make bench` measures: a quick run of an area leaves figures, JSON and a picture. No speed is judged here."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.bench.__main__ import parse_options
from tests.bench.areas import AREAS
from tests.bench.figures import Figure
from tests.bench.processes import ROOT
from tests.bench.report import write_plot

if TYPE_CHECKING:
    from pathlib import Path

PNG = b"\x89PNG"


@pytest.mark.slow
def test_a_quick_run_of_an_area_keeps_every_round_and_a_picture(tmp_path: Path) -> None:
    kept, picture = tmp_path / "rounds.json", tmp_path / "picture.png"
    command = [sys.executable, "-m", "tests.bench", "--quick", "--rounds", "2", "--only", "evaluation"]
    command += ["--json", str(kept), "--plot", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {one["name"]: one for one in orjson.loads(kept.read_bytes())["figures"]}
    fired = figures["events that fire a delivery each"]
    assert len(fired["rounds"]) == 2
    assert min(fired["rounds"]) > 0
    assert "run metrics" in done.stdout
    assert picture.read_bytes().startswith(PNG)


def test_what_is_no_area_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_options(["--only", "speed"])
    told = capsys.readouterr().err
    for area in AREAS:
        assert area.name in told


def test_areas_and_rounds_are_chosen() -> None:
    chosen = parse_options(["--only", "volume", "--only", "growth", "--only", "volume", "--quick"])
    assert ([area.name for area in chosen.areas], chosen.rounds) == (["volume", "growth"], 1)
    assert parse_options([]).areas == AREAS


@pytest.mark.parametrize(
    ("figure", "ratio", "reached"),
    [
        (Figure("a", "no demand", "s", (1.0,)), None, None),
        (Figure("a", "at least", "s", (5.0, 1.0, 3.0), at_least=3), None, True),
        (Figure("a", "at most", "s", (5.0, 1.0, 3.0), at_most=2.9), None, False),
        (Figure("a", "ratio", "s", (8.0,), against="rival", reference=(1.0, 2.0, 9.0), ratio_at_least=4), 4.0, True),
        (Figure("a", "both", "s", (8.0,), at_least=7, reference=(2.0,), ratio_at_least=5), 4.0, False),
        (Figure("a", "ratio at most", "s", (2.6,), reference=(2.0,), ratio_at_most=1.3), 1.3, True),
    ],
    ids=lambda value: value.name if isinstance(value, Figure) else None,
)
def test_a_figure_is_held_to_its_medians(figure: Figure, ratio: float | None, reached: bool | None) -> None:
    assert (figure.ratio, figure.reached) == (ratio, reached)


def test_a_picture_can_be_drawn_of_figures_that_demand_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    write_plot([Figure("a", "no demand", "s", (1.0,))], path)
    assert path.read_bytes().startswith(PNG)
