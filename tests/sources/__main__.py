"""Runs the client's tests from its wheel; `make test-sources`.

The environments are under build/sources/. On each Python from 3.10 on that this machine has, the client's own suite
runs with its extras; with `--torch`, its callbacks train with the real frameworks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.pythons import found

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "python"
FOLDER = ROOT / "build" / "sources"
SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
TOOLS = ("pytest>=8.3,<10", "pytest-timeout>=2.3,<3", "pytest-xdist>=3.6,<4", "numpy", "opentelemetry-api>=1.30,<2")
# This version of torch has a build for CPUs alone; a newer one may bring gigabytes of CUDA.
TORCH = "torch==2.13.0"
FRAMEWORKS = (
    "accelerate==1.15.0",
    "keras==3.15.1",
    "lightning==2.6.6",
    "scikit-learn>=1.5,<2",
    "tensorboard==2.21.0",
    "tensorboardX>=2.6,<3",
    "transformers==5.24.0",
)


def wheel() -> Path:
    """The client's wheel, built anew."""
    shutil.rmtree(FOLDER / "dist", ignore_errors=True)
    folder, client = str(FOLDER / "dist"), str(CLIENT)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, client]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (built,) = (FOLDER / "dist").glob("*.whl")
    return built


def environment(name: str, python: str, *installs: tuple[str, ...]) -> Path:
    """The interpreter of an environment that has these packages; made once."""
    folder = FOLDER / name
    interpreter = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        for packages in installs:
            _install(interpreter, *packages)
        (folder / ".ready").touch()
    return interpreter


def _install(interpreter: Path, *what: str) -> None:
    command = [
        str(interpreter),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--prefer-binary",
        *what,
    ]
    subprocess.run(command, check=True)


def _test(interpreter: Path, built: Path, tests: str, *flags: str) -> bool:
    """Install the wheel, and run tests with it from a folder that has no sources."""
    _install(interpreter, "--force-reinstall", "--no-deps", str(built))
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HOOKLINE_", "PYTHONPATH"))}
    settings = str(CLIENT / "pyproject.toml")
    command = [str(interpreter), "-m", "pytest", "-q", "-c", settings, *flags, str(CLIENT / tests)]
    return subprocess.run(command, cwd=FOLDER, env=own, check=False).returncode == 0


def main() -> int:
    """1 if any test failed; 0 where a Python is not here, which is said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=SUPPORTED, help="Pythons, or none (default: all)")
    parser.add_argument("--torch", action="store_true", help="also the frameworks")
    parser.add_argument("--only-make", action="store_true", help="make the frameworks' environment and test nothing")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if arguments.torch:
        frameworks = environment("frameworks", sys.executable, (TORCH,), (*FRAMEWORKS, *TOOLS))
        if arguments.only_make:
            return 0
    built = wheel()
    outcomes: dict[str, str] = {}
    if arguments.torch:
        # Their own warnings are theirs.
        passed = _test(frameworks, built, "frameworks", "-W", "default", "--timeout", "300")
        outcomes["frameworks"] = "passed" if passed else "failed"
    for version in arguments.versions:
        if version == "none":
            continue
        if (python := found(version)) is None:
            outcomes[f"Python {version}"] = "not found"
            continue
        interpreter = environment(f"client-{version}", python[0], (*TOOLS, "httpx>=0.27,<1", "sqlalchemy>=2.0,<2.2"))
        passed = _test(interpreter, built, "tests", "-n", "2")
        outcomes[f"Python {version}"] = "passed" if passed else "failed"
    for name, outcome in outcomes.items():
        print(f"{name}: {outcome}")
    return int("failed" in outcomes.values())


if __name__ == "__main__":
    sys.exit(main())
