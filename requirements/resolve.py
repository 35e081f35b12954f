"""Writes the files beside this one: every package that pyproject.toml leads to, at one version, with its hashes.

`make constraints` runs it with uv. A version stays as it is while pyproject.toml allows it; `--upgrade` takes the
newest. The hashes are those of all files of a release, so the same files serve every platform and every Python from
3.11 on. Everything is resolved together, so that a package has one version in all files. A file leaves out what the
files have that it is installed on top of.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
EDITABLE = "editables>=0.5,<1"
"""What hatchling asks for when it installs the project in place, besides what pyproject.toml requires for a build."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file: what it is for, the extras of pyproject.toml that it adds, and the files it is installed on top of."""

    purpose: str
    extras: tuple[str, ...] = ()
    upon: tuple[str, ...] = ()


LIGHT = ("build", "runtime", "otel", "oidc", "local")
PARTS = {
    "build": Part("What builds the project."),
    "runtime": Part("What every part of Hookline needs."),
    "otel": Part("What HOOKLINE_OTEL=1 needs, on top of runtime.txt.", ("otel",), ("runtime",)),
    "oidc": Part("What HOOKLINE_OIDC_ISSUER needs, on top of runtime.txt.", ("oidc",), ("runtime",)),
    "local": Part("What `hookline up` and the demo need, on top of runtime.txt.", ("embedded", "demo"), ("runtime",)),
    "dev": Part("What tests, checks and benchmarks need, on top of those.", ("dev",), LIGHT),
    "fuzz": Part("What guides `make fuzz`, on top of dev.txt.", ("dev", "fuzz"), (*LIGHT, "dev")),
    "examples": Part("What examples.record_training needs, on top of dev.txt.", ("dev", "examples"), (*LIGHT, "dev")),
}


def main() -> None:
    """Resolve everything together, and then write each file by those versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that pyproject.toml allows")
    upgrade = ["--upgrade"] if parser.parse_args().upgrade else []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = "\n".join((*project["build-system"]["requires"], EDITABLE))
    together = ROOT / "build" / "together.txt"
    together.parent.mkdir(exist_ok=True)
    together.write_text("\n".join(path.read_text() for path in sorted(HERE.glob("*.txt"))))
    _compile("pyproject.toml", "-", "--all-extras", *upgrade, "-o", str(together), given=build)
    for name, part in PARTS.items():
        flags = ["-" if name == "build" else "pyproject.toml", "--generate-hashes", "-c", str(together)]
        flags += [flag for extra in part.extras for flag in ("--extra", extra)]
        flags += [flag for one in part.upon for package in packages(one) for flag in ("--no-emit-package", package)]
        pins = _compile(*flags, given=build)
        (HERE / f"{name}.txt").write_text(f"# {part.purpose} Written by `make constraints`.\n{pins}")


def packages(name: str) -> list[str]:
    """The packages of a file."""
    return re.findall(r"^([a-z0-9-]+)==", (HERE / f"{name}.txt").read_text(), re.MULTILINE)


def _compile(*flags: str, given: str) -> str:
    uv = str(Path(sys.executable).with_name("uv"))
    form = ("--universal", "--python-version", "3.11", "--quiet", "--no-header", "--no-annotate", "--no-emit-index-url")
    done = subprocess.run(
        [uv, "pip", "compile", *flags, *form], cwd=ROOT, input=given, text=True, check=True, stdout=subprocess.PIPE
    )
    return done.stdout


if __name__ == "__main__":
    main()
