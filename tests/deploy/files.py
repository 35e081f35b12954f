"""Where deploy/ and the tools that read it are. `make deploy-tools` brings the tools; without them, tests skip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "hookline"
TOOLS = ROOT / "build" / "deploy-tools"
SCHEMAS = TOOLS / "kubernetes"
KUBERNETES_OWN = {"v1", "apps/v1", "batch/v1", "autoscaling/v2", "policy/v1", "networking.k8s.io/v1"}


def tool(name: str) -> str:
    """A tool's path; the test is skipped where it is absent."""
    path = shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")
    if path is None:
        pytest.skip(f"no {name} here: `make deploy-tools` brings it")
    return path


def said(*command: str, **variables: str) -> str:
    """What a command prints; AssertionError with its complaint when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def text_files() -> list[Path]:
    """Every file of deploy/ that people wrote."""
    return [
        path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and path.suffix not in {".png", ".json", ".pyc"}
    ]


@cache
def rendered(*values: str) -> tuple[dict[str, Any], ...]:
    """The chart's objects with these `--set` values."""
    flags = [flag for value in values for flag in ("--set", value)]
    out = said(tool("helm"), "template", "release", str(CHART), "--namespace", "hookline", *flags)
    return tuple(one for one in yaml.safe_load_all(out) if one)


def seconds(text: str) -> int:
    """A number of seconds such as 20s or 60."""
    match = re.fullmatch(r"(\d+)s?", text)
    assert match, text
    return int(match[1])
