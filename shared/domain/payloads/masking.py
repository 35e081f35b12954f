"""Taking secrets out of text that others wrote, such as an endpoint's answer that repeats the request it got.

A value is found as it is, under any nesting of JSON's, percent-encoding's and HTML's or XML's escapes that frameworks
make (`unescaping.py`), in hexadecimal, and in base64 of it or of a text that contains it as a body
spells it. What somebody transformed
otherwise (compressed, encrypted, base64 in lines, upper case, a part of it) can't be recognized.

Nobody may learn a value from what is masked. So only whole values are masked, and what is left out where an answer was
cut does not depend on any value: a rule that knew the beginnings of values would confirm a guess letter by letter.
"""

from __future__ import annotations

import base64
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache

from shared.domain.payloads.content_types import escape_form
from shared.domain.payloads.sealed import as_unicode, escape_json
from shared.domain.payloads.unescaping import readings

SHORTEST_CODED = 8
"""Base64 and hexadecimal of fewer characters than this are ignored: they would be found in innocent words."""
SHOWN_BYTES = 4 << 10
"""How much of an answer is shown and stored. Twice as much would double the largest column of the attempts."""
CUT_BYTES = 8 << 10
"""How much of the end of an answer that was not read whole is left out, since a value may be cut there. A value whose
longest spelling is longer could begin before it, so `LONGEST_CUT_SECRET_BYTES` follows from this."""
LONGEST_CUT_SECRET_BYTES = CUT_BYTES // 12
"""The longest value that fits into `CUT_BYTES` however it is spelled: JSON in JSON in JSON takes 12 bytes for one."""


class Mask:
    """Puts `***NAME***` in place of each secret's value. Make one of the secrets that were sent."""

    __slots__ = ("_secrets", "_shortest", "_spaces")

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """`secrets`: the values by their names; empty values are ignored."""
        self._secrets = tuple((name, value) for name, value in secrets.items() if value)
        self._shortest = min((len(value) for _name, value in self._secrets), default=0)
        self._spaces = any(" " in value for _name, value in self._secrets)

    def __call__(self, text: str, *, cut: bool = False) -> str:
        """The masked text.

        `cut`: the text goes on where it ends, in bytes that were not kept. Its last `CUT_BYTES` are then searched, so
        that a value that reaches into them is masked whole, and left out.

        Raises:
            TooManyEscapes: when the text can't be searched in bounded time, so that nothing of it may be shown.
        """
        end = len(text.encode("utf-8", "surrogatepass")[:-CUT_BYTES].decode("utf-8", "ignore")) if cut else len(text)
        if len(text) < self._shortest or not self._secrets:
            return text[:end]
        masked, at = [], 0
        for start, stop, name in _merged(self._found(text)):
            if start >= end:
                break
            masked += [text[at:start], f"***{name}***"]
            at = stop
        return "".join([*masked, text[at:end]])

    def _found(self, text: str) -> Iterable[tuple[int, int, str]]:
        """Where values stand in the text, however they are spelled: start, end and the secret's name.

        A value that a plainer reading found is not found again with more around it. Otherwise a backslash before it
        would be masked or not by what its first letter is, which may make an escape of the two.
        """
        spelled = [
            (spelling, name)
            for name, value in self._secrets
            if len(value) <= len(text)  # no spelling is shorter than its value
            for spelling in (value, *_coded(value))
        ]
        known: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for reading in readings(text, spaces=self._spaces):
            for spelling, name in spelled:
                at = reading.text.find(spelling)
                while at >= 0:
                    span = reading.span(at, at + len(spelling))
                    place = bisect_left(known[name], span)
                    within = known[name][place : place + 1]
                    if not within or within[0][1] > span[1]:
                        known[name].insert(place, span)
                        yield *span, name
                    at = reading.text.find(spelling, at + 1)


def shown(text: str, max_bytes: int = SHOWN_BYTES) -> str:
    """As much of a masked text as is shown and stored: `max_bytes` at the most, in whole characters."""
    if len(text) * 4 <= max_bytes:
        return text
    return text.encode("utf-8", "surrogatepass")[:max_bytes].decode("utf-8", "ignore")


def _merged(found: Iterable[tuple[int, int, str]]) -> Iterable[tuple[int, int, str]]:
    """Places that overlap as one, under the name of the longest of them."""
    group: list[tuple[int, int, str]] = []
    end = -1
    for place in sorted(set(found)):
        if group and place[0] >= end:
            yield _whole(group, end)
            group, end = [], -1
        group.append(place)
        end = max(end, place[1])
    if group:
        yield _whole(group, end)


def _whole(group: list[tuple[int, int, str]], end: int) -> tuple[int, int, str]:
    return group[0][0], end, max(group, key=lambda place: place[1] - place[0])[2]


@lru_cache(maxsize=128)
def _coded(value: str) -> frozenset[str]:
    """A value in hexadecimal and base64, wherever in a longer text it stands, also as a body spells it.

    Kept, since a webhook's secrets are the same for days.
    """
    in_json = escape_json(value)
    spellings = dict.fromkeys((value, in_json, escape_form(as_unicode(value)), escape_form(in_json)))
    return frozenset(coded for spelling in spellings for coded in _coded_once(spelling))


def _coded_once(spelling: str) -> frozenset[str]:
    given = spelling.encode("utf-8", "surrogatepass")
    found = {given.hex(), given.hex().upper(), base64.b64encode(given).decode()}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + given).decode()
        # Six bits a character: only those that no neighbour of the value has a share in.
        found.add(whole[-(-before * 8 // 6) : (before + len(given)) * 8 // 6])
    found |= {text.translate(_URL_SAFE) for text in found}
    return frozenset(text for text in found if len(text) >= SHORTEST_CODED)


_URL_SAFE = str.maketrans("+/", "-_")
