"""`make fuzz`: each target in a process of its own for a time; exits 1 when anything was found.

What a run learns is kept in `build/fuzz/<name>/corpus`, what it found in `build/fuzz/<name>/crashes`. A crash that is
mended belongs into `tests/fuzz/corpus/<name>/`, where `make test` tries it each time.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz.session import FOUND, has_atheris
from tests.fuzz.targets import NAMES

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "fuzz"
GRACE_SECONDS = 180
SHOWN_LINES = 40
SHOWN_BYTES = 2_000
_EXECUTED = re.compile(r"stat::number_of_executed_units: *([0-9]+)")
_COVERED = re.compile(r" cov: ([0-9]+)")


@dataclass(frozen=True)
class Result:
    """What came of one target."""

    name: str
    inputs: int
    branches: int | None
    """How many places of the code were reached; None without coverage."""
    status: int | None
    """The process's exit status; None: it did not end in time."""
    findings: tuple[Path, ...]

    @property
    def passed(self) -> bool:
        """Nothing found, and the process ended as it should."""
        return self.status == 0 and not self.findings


def run(name: str, seconds: int, seed: int, console: Console) -> Result:
    """One target in a child process, whose output is kept in `build/fuzz/<name>/log`."""
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    before = _crashes(folder)
    command = [sys.executable, "-m", "tests.fuzz.session", name, f"--seconds={seconds}", f"--folder={folder}"]
    log = folder / "log"
    with log.open("wb") as output:
        try:
            status = subprocess.run(
                [*command, f"--seed={seed}"],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds + GRACE_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = None
    text = log.read_text(errors="replace")
    found = tuple(sorted(_crashes(folder) - before))
    result = Result(name, _last(_EXECUTED, text) or 0, _last(_COVERED, text), status, found)
    if not result.passed:
        _show(result, text, console)
    return result


def _crashes(folder: Path) -> set[Path]:
    """What libFuzzer calls slow-unit is no finding: targets measure the time themselves."""
    return {path for path in (folder / "crashes").glob("*") if not path.name.startswith("slow-unit")}


def _last(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.findall(text)
    return int(found[-1]) if found else None


def _show(result: Result, log: str, console: Console) -> None:
    console.print(f"[bold red]{result.name}[/]: exit status {result.status}", highlight=False)
    lines = [line for line in log.splitlines() if not line.startswith(("INFO: Instrumenting", "#"))]
    console.print("\n".join(lines[-SHOWN_LINES:]), markup=False, highlight=False)
    for path in result.findings:
        data = path.read_bytes()
        console.print(f"{path.relative_to(ROOT)} ({len(data)} bytes):", markup=False, highlight=False)
        console.print(repr(data[:SHOWN_BYTES]), markup=False, highlight=False)


def _table(results: list[Result], seconds: int) -> Table:
    table = Table(title=f"Fuzzing, {seconds} s a target", title_justify="left")
    for column in ("target", "inputs", "branches", "found"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for one in results:
        found = str(len(one.findings)) if one.passed or one.status == FOUND else f"exit status {one.status}"
        branches = "-" if one.branches is None else str(one.branches)
        table.add_row(one.name, str(one.inputs), branches, found, style="" if one.passed else "bold red")
    return table


def main() -> int:
    """Run the targets one after the other and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long each target is tried (default 60)")
    parser.add_argument("--only", choices=NAMES, action="append", help="this target only; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="repeat a run's random choices")
    options = parser.parse_args()
    console, results = Console(), []
    if not has_atheris():
        console.print("atheris is not installed: inputs are random, not guided by coverage (pip install -e '.[fuzz]')")
    for name in options.only or NAMES:
        console.print(f"{name} …")
        results.append(run(name, options.seconds, options.seed, console))
    console.print(_table(results, options.seconds))
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
