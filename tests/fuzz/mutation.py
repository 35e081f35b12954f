"""Changes to JSON text that leave it JSON text: a fuzzer that only flips bytes seldom gets past the parser.

Everything is drawn from the generator that is passed in, so that a run can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

MAX_CHARS = 1 << 16
MAX_WRAPPINGS = 120
PLAIN: tuple[Any, ...] = (
    *(None, True, False, "", "a", " ", "\0", "\n", "\x7f", "é", "\u2028", "\ud800", "\U0001f600", '"', "\\", "$", "${"),
    *("a" * 600, 0, 1, -1, -0.0, 0.5, 1e-320, 1e308, -1e308, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400),
    *(float("nan"), float("inf")),
    *([], {}, [[]], [None], {"": 0}, "NaN", "1", "2026-11-23T09:00:00Z"),
)  # fmt: skip

Slot = tuple[Any, Any]
"""A list or object, and the index or name of one of its members."""


def mutated(data: bytes, words: Sequence[str], rng: Random) -> bytes:
    """The text with one to four changes to the value that it stands for; what is not JSON is left as it is."""
    try:
        box = [json.loads(data)]
    except (ValueError, RecursionError):
        return data
    try:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            rng.choice(_CHANGES)(box, words, rng)
        text = json.dumps(box[0], ensure_ascii=rng.random() < 0.5)
    except (ValueError, RecursionError):
        return data
    return text.encode("utf-8", "surrogatepass") if len(text) <= MAX_CHARS else data


def _slots(value: Any) -> list[Slot]:
    found: list[Slot] = []
    left = [value]
    while left:
        container = left.pop()
        for key in range(len(container)) if isinstance(container, list) else list(container):
            found.append((container, key))
            if isinstance(container[key], list | dict):
                left.append(container[key])
    return found


def _any_slot(box: Any, rng: Random) -> Slot:
    return rng.choice(_slots(box))


def _something(box: Any, words: Sequence[str], rng: Random) -> Any:
    """A plain value, a word, or a copy of some part."""
    kind = rng.random()
    if kind < 0.4:
        return deepcopy(rng.choice(PLAIN))
    if kind < 0.7 and words:
        return rng.choice(words)
    container, key = _any_slot(box, rng)
    return deepcopy(container[key])


def _replace(box: Any, words: Sequence[str], rng: Random) -> None:
    container, key = _any_slot(box, rng)
    container[key] = _something(box, words, rng)


def _remove(box: Any, _words: Sequence[str], rng: Random) -> None:
    container, key = _any_slot(box, rng)
    if container is not box:
        del container[key]


def _add(box: Any, words: Sequence[str], rng: Random) -> None:
    container, key = _any_slot(box, rng)
    inner = container[key]
    if isinstance(inner, dict):
        inner[_name(words, rng)] = _something(box, words, rng)
    elif isinstance(inner, list):
        inner.insert(rng.randint(0, len(inner)), _something(box, words, rng))


def _repeat(box: Any, _words: Sequence[str], rng: Random) -> None:
    container, key = _any_slot(box, rng)
    if isinstance(container, list) and container is not box:
        container[key:key] = [deepcopy(container[key]) for _ in range(rng.choice((1, 2, 30)))]


def _rename(box: Any, words: Sequence[str], rng: Random) -> None:
    container, key = _any_slot(box, rng)
    if isinstance(container, dict):
        container[_name(words, rng)] = container.pop(key)


def _wrap(box: Any, words: Sequence[str], rng: Random) -> None:
    container, key = _any_slot(box, rng)
    value, name = container[key], _name(words, rng)
    as_list = rng.random() < 0.5
    for _ in range(rng.choice((1, 1, 2, rng.randint(1, MAX_WRAPPINGS)))):
        value = [value] if as_list else {name: value}
    container[key] = value


def _change_scalar(box: Any, words: Sequence[str], rng: Random) -> None:
    scalars = [slot for slot in _slots(box) if not isinstance(slot[0][slot[1]], list | dict)]
    if not scalars:
        return
    container, key = rng.choice(scalars)
    value = container[key]
    if isinstance(value, str):
        container[key] = _changed_text(value, words, rng)
    elif isinstance(value, bool) or value is None:
        container[key] = rng.choice((None, True, False))
    elif isinstance(value, int):
        container[key] = value + rng.choice((-1, 1, -100, 100, 2**31, rng.randint(-(2**64), 2**64)))
    else:
        container[key] = value * rng.choice((-1, 0, 0.5, 2, 1e6, 1e-6, 1e300)) + rng.choice((0, 0, 1, -1e-9))


def _changed_text(text: str, words: Sequence[str], rng: Random) -> str:
    start = rng.randint(0, len(text))
    end = min(len(text), start + rng.choice((0, 0, 1, 1, 2, 8)))
    kinds: tuple[Callable[[], str], ...] = (
        lambda: "",
        lambda: text[start:end] * rng.choice((2, 3, 50)),
        lambda: _name(words, rng),
        lambda: chr(rng.randint(1, 0xFF)),
        lambda: chr(rng.choice((0, 0x7F, 0xD800, 0xDFFF, 0xFFFD, 0xFFFF, 0x10FFFF, rng.randint(0, 0x10FFFF)))),
        lambda: rng.choice(".*+?()[]{}|^$\\-,:;=/%&<>'\" 0123456789eE_\n\t"),
    )
    return text[:start] + rng.choice(kinds)() + text[end:]


def _name(words: Sequence[str], rng: Random) -> str:
    return rng.choice(words) if words and rng.random() < 0.9 else rng.choice(("", "a", "b", "é", "$", "a.b"))


_CHANGES: tuple[Callable[[Any, Sequence[str], Random], None], ...] = (
    *(_replace, _remove, _add, _repeat, _rename, _wrap),
    *(_change_scalar, _change_scalar, _change_scalar),
)
