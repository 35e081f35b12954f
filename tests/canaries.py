"""Secrets that give themselves away: values that nothing else has, and a search for them in every form."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import orjson
import re2


def forms(value: str) -> dict[str, bytes]:
    """A value in each form in which it could be found; in base64 at each place in a longer text."""
    raw = value.encode()
    found = {
        "plain": raw,
        "JSON": orjson.dumps(value)[1:-1],
        "JSON in ASCII": json.dumps(value)[1:-1].encode(),
        "JSON in JSON": json.dumps(json.dumps(value)[1:-1])[1:-1].encode(),
        "JSON with \\/": json.dumps(value)[1:-1].replace("/", "\\/").encode(),
        "Python": repr(value)[1:-1].encode(),
        "URL": quote(value).encode(),
        "URL component": quote(value, safe="").encode(),
        "form": quote_plus(value).encode(),
        "URL in small letters": quote(value, safe="").lower().encode(),
        "HTML": html.escape(value).encode(),
        "hexadecimal": raw.hex().encode(),
        "UTF-16": value.encode("utf-16-le"),
    }
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw).decode()
        # The groups of four characters that hold bytes of the value only.
        core = whole[4 if before else 0 : (before + len(raw)) // 3 * 4]
        found[f"base64 after {before}"] = core.encode()
        found[f"base64url after {before}"] = core.translate(str.maketrans("+/", "-_")).encode()
    return found


@dataclass
class Search:
    """Looks for canaries in what a system has written; each place must also hold what it is known to hold."""

    canaries: Mapping[str, str]
    finds: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make one pattern of all: RE2 looks for many texts as fast as for one."""
        self._forms: dict[bytes, str] = {}
        for name, value in self.canaries.items():
            for form, needle in forms(value).items():
                assert len(needle) >= 8, (name, form)
                self._forms.setdefault(needle, f"{name} ({form})")
        options: Any = re2.Options()  # the stubs lack its encodings
        options.encoding = options.Encoding.LATIN1
        self._pattern = re2.compile(b"|".join(map(re2.escape, self._forms)) or b"$^", options)

    def look(self, place: str, content: bytes | str, *, holding: str) -> None:
        """Note each canary in the content, which was really captured: it holds a known innocent text."""
        content = content.encode() if isinstance(content, str) else content
        assert holding.encode() in content, f"{place} does not even hold {holding!r}: {content[:300]!r}"
        found: dict[str, int] = {}
        for match in self._pattern.finditer(content):
            found.setdefault(self._forms[match[0] or b""], match.start())
        for canary, at in found.items():
            self.finds.append(f"{canary} in {place}: …{content[max(0, at - 120) : at + 60]!r}…")

    def look_into(self, place: str, folder: Path, *, holding: str) -> None:
        """Look through all files of a folder, read one after another."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self.look(place, b"\n".join(path.read_bytes() for path in files), holding=holding)
