"""What a fuzz target is: a function of bytes that raises when what it tries does not behave as promised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to try. Its seeds are the files of `tests/fuzz/corpus/<name>/`, which people can read."""

    check: Callable[[bytes], None]
    """Raises for a finding, and for nothing else; bytes that mean nothing to it are passed over."""
    inputs: SearchStrategy[bytes]
    """Inputs that get past the first checks, and such that nearly do."""
    words: tuple[str, ...] = ()
    """What the thing tried knows of: members, operators, names. Mutations put them in."""
    is_json: bool = True
    """Whether inputs are JSON text, so that mutations change the value and not only the bytes."""
