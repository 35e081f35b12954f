"""Where in a YAML document a member is, so that a fault can be told by its line."""

from __future__ import annotations

from typing import Any

import yaml

from shared.domain.errors import Loc

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Places:
    """The lines of one document's members. A member that comes by an alias or a merge is where what holds it is."""

    def __init__(self, text: str) -> None:
        self._root = next((node for node in yaml.compose_all(text, Loader=_LOADER) if node and node.value), None)

    def line(self, loc: Loc) -> int | None:
        """The line, counted from 1, of the deepest member on the way to a place; None in an empty document."""
        node = self._root
        if node is None:
            return None
        line = node.start_mark.line
        for part in loc:
            step = _member(node, part)
            if step is None:
                break
            line, node = step
        return line + 1


def _member(node: Any, part: int | str) -> tuple[int, Any] | None:
    """The line of a member, and its node."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == part:
                return key.start_mark.line, value
    return None
