"""What deploy/ pulls and installs can be held to a digest or a hash, so that nobody can change it unnoticed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.files import DEPLOY

COMPOSE = DEPLOY / "compose"
DOCKERFILE = (DEPLOY / "image" / "Dockerfile").read_text()
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
NEWER = f"sha256:{'f' * 64}"


def images(environment: str) -> dict[str, str]:
    """The images that an environment file names, except the one that is built here."""
    named = dict(re.findall(r"^([A-Z]+_IMAGE)=(.+)$", environment, re.MULTILINE))
    named.pop("HOOKLINE_IMAGE")
    return named


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the compose file's folder with a filled-in .env."""
    shutil.copy(COMPOSE / "pin-images", tmp_path)
    text = (COMPOSE / "env.example").read_text().replace("POSTGRES_PASSWORD=", "POSTGRES_PASSWORD=a b$c'd\\e")
    (tmp_path / ".env").write_text(text)
    (tmp_path / ".env").chmod(0o600)
    return tmp_path


def pin(folder: Path, answer: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run pin-images where docker answers this to every question for a digest."""
    docker = folder / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >>{folder}/asked\n{answer}\n')
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run([folder / "pin-images", *flags], env=environment, capture_output=True, text=True, check=False)


def test_every_image_can_be_given_by_digest() -> None:
    """As a variable of which the example has the value that holds without one."""
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    used = dict(re.findall(r"^ARG (PYTHON_IMAGE)=(\S+)$", DOCKERFILE, re.MULTILINE))
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    assert compose["api"]["build"]["args"] == {"PYTHON_IMAGE": f"${{PYTHON_IMAGE:-{used['PYTHON_IMAGE']}}}"}
    for service in compose.values():
        match = re.fullmatch(r"\$\{([A-Z]+_IMAGE):-(\S+)\}", service["image"])
        assert match, service["image"]
        if match[1] != "HOOKLINE_IMAGE":
            used[match[1]] = match[2]
    assert used == images((COMPOSE / "env.example").read_text())
    assert all(re.fullmatch(r"[a-z/]+:[\w.-]+", image) for image in used.values())


def test_images_are_pinned_and_nothing_else_changes(folder: Path) -> None:
    before = (folder / ".env").read_text()
    done = pin(folder, f"echo {DIGEST}")
    after = (folder / ".env").read_text()
    assert (done.returncode, done.stderr) == (0, "")
    assert images(after) == {name: f"{image}@{DIGEST}" for name, image in images(before).items()}
    assert after.replace(f"@{DIGEST}", "") == before
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    asked = (folder / "asked").read_text().splitlines()
    assert asked == [
        f"buildx imagetools inspect {image} --format {{{{.Manifest.Digest}}}}" for image in images(before).values()
    ]


def test_a_digest_stays_until_a_newer_one_is_asked_for(folder: Path) -> None:
    pin(folder, f"echo {DIGEST}")
    pinned = (folder / ".env").read_text()
    assert pin(folder, f"echo {NEWER}").returncode == 0
    assert (folder / ".env").read_text() == pinned
    assert pin(folder, f"echo {NEWER}", "--refresh").returncode == 0
    assert (folder / ".env").read_text() == pinned.replace(DIGEST, NEWER)


@pytest.mark.parametrize("answer", ["exit 1", "echo latest", f"echo {DIGEST[:-1]}", "true"])
def test_without_a_digest_nothing_changes(folder: Path, answer: str) -> None:
    before = (folder / ".env").read_text()
    done = pin(folder, answer)
    assert done.returncode == 1
    assert done.stderr == "pin-images: no digest for python:3.11-slim; .env is unchanged\n"
    assert (folder / ".env").read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == [".env", "asked", "docker", "pin-images"]


def test_the_image_installs_only_files_whose_hash_is_known() -> None:
    """And the wheel that it builds itself, without asking anybody else for anything."""
    installs = [line for line in re.sub(r"\\\n", "", DOCKERFILE).split("&&") if " install " in line and "pip" in line]
    assert len(installs) == 3
    assert all("--require-hashes" in one or "--no-index" in one for one in installs)
