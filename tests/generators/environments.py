"""The generators, under build/generators/. `python -m tests.generators.environments` makes what can be made here."""

from __future__ import annotations

from tests.package_environments import BUILD, Environments

_PACKAGES = {
    "openapi-typescript": "7.13.0",
    "openapi-fetch": "0.17.0",
    "typescript": "5.9.3",
    "@types/node": "20.19.43",
}
_OWN = Environments(BUILD / "generators", ["openapi-python-client==0.29.1"], _PACKAGES)
PYTHON, NODE = _OWN.python, _OWN.node
has_python, has_node, make = _OWN.has_python, _OWN.has_node, _OWN.make

if __name__ == "__main__":
    make()
