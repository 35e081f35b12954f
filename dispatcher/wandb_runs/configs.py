"""What is kept of a run's config and summary: within bounds, and without what looks like a secret. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from dispatcher.wandb_runs.history import MAX_LEVELS, is_number, read_object
from shared.domain.errors import InvalidDefinition
from shared.domain.json_text import write_json

_OLD_CLIENT: Final = re.compile(r"0\.(?:[0-9]|1[0-9])\.")
MAX_KEPT_BYTES: Final = 16 << 10
"""Of a config, and of a summary."""
MAX_EACH_BYTES: Final = 4 << 10
"""Of a config in each event about metrics: a run may log ten thousands of lines, and the streams hold them all."""
_SECRET: Final = re.compile(
    r"(?:^|[_.\-])(?:password|passwd|secret|token|api_?key|access_?key|private_?key|credentials?)$", re.IGNORECASE
)
"""Names that values have which should not be in events: those that the Python client leaves out."""


def read_config(text: str) -> dict[str, Any]:
    """The config of a JSON text in the client's form, `{"lr": {"value": 0.1}}`, as filters find it: `{"lr": 0.1}`.

    Members of the client's own, what looks like a secret, and the largest ones over `MAX_KEPT_BYTES` are left out.

    Raises:
        InvalidDefinition: where the text is no JSON object.
    """
    members = read_object(text)
    if members is None:
        raise InvalidDefinition.at(("config",), 'must be a JSON object in a string, such as {"lr": {"value": 0.1}}')
    config = {
        key: value["value"] if isinstance(value, dict) and "value" in value else value
        for key, value in members.items()
        if not key.startswith("_")
    }
    return within_bounds(_kept(config))


def is_of_old_client(text: str | None) -> bool:
    """Whether a config comes from a client before 0.20, which never sends back the id that a run was given."""
    members = {} if text is None else read_object(text) or {}
    own = members.get("_wandb")
    inner = own.get("value") if isinstance(own, dict) else None
    version = inner.get("cli_version") if isinstance(inner, dict) else None
    return isinstance(version, str) and _OLD_CLIENT.match(version) is not None


def client_config(config: Mapping[str, Any]) -> str:
    """The JSON text of a config in the client's form."""
    return write_json({key: {"value": value} for key, value in config.items()}).decode()


def read_summary(text: str) -> dict[str, Any] | None:
    """What is kept of a summary; None where the text is no JSON object."""
    members = read_object(text)
    if members is None:
        return None
    own = {key: members[key] for key in ("_step", "_runtime", "_timestamp") if is_number(members.get(key))}
    rest = {key: value for key, value in members.items() if not key.startswith("_")}
    return within_bounds(_kept(rest)) | own


def within_bounds(members: Mapping[str, Any], most_bytes: int = MAX_KEPT_BYTES) -> dict[str, Any]:
    """The members without the largest ones, where all together have more than `most_bytes` of JSON."""
    sizes = {key: len(write_json(key)) + len(write_json(value)) + 2 for key, value in members.items()}
    over_bytes = sum(sizes.values()) - most_bytes
    left_out: set[str] = set()
    for key in sorted(sizes, key=lambda one: -sizes[one]):
        if over_bytes <= 0:
            break
        over_bytes -= sizes[key]
        left_out.add(key)
    return {key: value for key, value in members.items() if key not in left_out}


def _kept(value: Any, levels: int = MAX_LEVELS) -> Any:
    """A value without what looks like a secret, and without what lies deeper than `MAX_LEVELS`."""
    if isinstance(value, dict):
        return {key: _kept(one, levels - 1) for key, one in value.items() if levels and not _SECRET.search(key)}
    if isinstance(value, list):
        return [_kept(one, levels - 1) for one in value if levels]
    return value
