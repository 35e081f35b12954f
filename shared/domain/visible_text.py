r"""Text of others for people's screens: what a terminal would obey, or show in another order, is written out.

These are the control characters (C0, DEL, C1: `ESC [`, and U+009B which is the same), the marks of bidirectional text,
which let one text look like another, and the separators that end a line.
"""

from __future__ import annotations

import re
from typing import Final

UNSEEN_CHARACTERS: Final = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""What no new name may hold, as the inside of a regular expression's set."""
_UNSEEN = re.compile(f"[{UNSEEN_CHARACTERS}]")
_OBEYED = re.compile(rf"[{UNSEEN_CHARACTERS}\ud800-\udfff]")
_OBEYED_IN_LINES = re.compile(rf"(?![\n\t])[{UNSEEN_CHARACTERS}\ud800-\udfff]")
NO_UNSEEN: Final = "must not hold control characters or marks of bidirectional text, such as U+001B, U+009B and U+202E"


def has_unseen(text: str) -> bool:
    """Whether some characters of a text are not seen, but change how it, or the screen, is seen."""
    return _UNSEEN.search(text) is not None


def visible(text: str) -> str:
    r"""The text with such characters written out, as in `\x1b[2J` and `\u202e`; ends of lines and tabs stay."""
    return _OBEYED_IN_LINES.sub(_written_out, text)


def visible_line(text: str) -> str:
    """The text as one line, with such characters written out."""
    return _OBEYED.sub(_written_out, text)


def visible_json(text: str) -> str:
    r"""A JSON text with such characters escaped, which means the same; JSON itself escapes those of C0."""
    return _OBEYED_IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shortened(text: str, max_chars: int) -> str:
    """The text, or as much of a longer one as leaves room for an ellipsis in so many characters."""
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"


def _written_out(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
