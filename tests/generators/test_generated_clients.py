"""The document fits the two usual generators: what they make imports, compiles, and works against a server."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.generators import environments
from tests.sdk.conftest import Hookline

HERE = Path(__file__).parent
TIMEOUT_SECONDS = 100


def run(*command: object, cwd: Path, **environment: str) -> str:
    """What a command printed; it must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.skipif(not environments.has_python(), reason="make test-generators makes the generators")
def test_the_python_client_imports_publishes_creates_lists_and_replays(
    hookline: Hookline, document: Path, tmp_path: Path
) -> None:
    generator = environments.PYTHON.with_name("openapi-python-client")
    path = f"{environments.PYTHON.parent}{os.pathsep}{os.environ['PATH']}"
    config = tmp_path / "config.yml"
    config.write_text("post_hooks: []\n")  # they make it pretty
    asked = ("generate", "--path", document, "--output-path", "generated", "--meta", "none", "--config", config)
    said = run(generator, *asked, cwd=tmp_path, PATH=path)
    assert "WARNING" not in said.upper(), said

    used = HERE / "use_python_client.py"
    said = run(environments.PYTHON, used, hookline.url, hookline.keys["admin"], cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert said.strip() == "ok"


@pytest.mark.skipif(not environments.has_node(), reason="make test-generators makes them where there is Node.js")
def test_the_typescript_client_compiles_and_works(hookline: Hookline, document: Path, tmp_path: Path) -> None:
    shutil.copy(environments.NODE / "package.json", tmp_path)
    (tmp_path / "node_modules").symlink_to(environments.NODE / "node_modules")
    shutil.copy(HERE / "use_typescript_client.ts", tmp_path)
    node, bin_ = shutil.which("node"), environments.NODE / "node_modules" / ".bin"
    run(node, bin_ / "openapi-typescript", document, "-o", "api.ts", cwd=tmp_path)
    strict = (
        "--strict",
        "--skipLibCheck",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--moduleResolution",
        "nodenext",
    )
    run(node, bin_ / "tsc", *strict, "use_typescript_client.ts", cwd=tmp_path)

    key = {"HOOKLINE_URL": hookline.url, "HOOKLINE_API_KEY": hookline.keys["admin"]}
    assert run(node, "use_typescript_client.js", cwd=tmp_path, **key).strip() == "ok"
