"""JSON text in which whole numbers stay exactly as they were written, however many digits they have.

orjson reads a whole number beyond 64 bits as the nearest fraction, and writes none. So where a text may hold such a
number, msgspec reads and writes it. Both it and Python end at some 4,300 digits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import orjson

MAX_DIGITS: Final = 4000
"""How many digits a whole number may have, wherever one comes in."""
MAX_LEVELS: Final = 1024
"""How many levels of lists and objects a text may have: orjson's limit."""
_TOO_DEEP = "nests too deeply"
STEP_BYTES: Final = 128 << 10
"""What is read in one step, in which no other thread of the process runs: some 2 ms at worst, and for one text of
8 MiB, which can't be cut, some 15."""
_SPLIT_LEVELS: Final = 3
"""How many levels of a large text are cut apart: that of a manifest, its lists, and one more. Each is a scan."""
_LONG_DIGITS: Final = 19
_LONG: Final = b"0" * _LONG_DIGITS
_ANY_DIGIT_AS_0: Final = bytes.maketrans(b"123456789", b"000000000")
_TOO_LONG = re.compile(rb"(?<![0-9.eE+])[0-9]{%d}(?![0-9]*[.eE])" % (MAX_DIGITS + 1))
_LEAST: Final[int] = -(10**MAX_DIGITS)
_GREATEST: Final[int] = 10**MAX_DIGITS


def read_json(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        orjson.JSONDecodeError: with the place of what is no JSON, and for whole numbers of more than `MAX_DIGITS`
            digits.
    """
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    if _has_long_number(data):
        try:
            value = msgspec.json.decode(data)
        except RecursionError:
            raise orjson.JSONDecodeError(_TOO_DEEP, "", 0) from None
        except (ValueError, msgspec.MsgspecError):
            if found := _TOO_LONG.search(data):
                message = f"a whole number has more than {MAX_DIGITS} digits"
                raise orjson.JSONDecodeError(message, data.decode("latin-1"), found.start()) from None
        else:
            # msgspec ends where Python's recursion does, which since 3.12 is far beyond orjson's limit.
            if data.count(b"[") + data.count(b"{") > MAX_LEVELS and _nests_deeper(value, MAX_LEVELS):
                raise orjson.JSONDecodeError(_TOO_DEEP, "", 0)
            return value
    return orjson.loads(data)


def _has_long_number(data: bytes) -> bool:
    """Whether so many digits stand in a row that they may be a number beyond 64 bits. In steps, as it may be long."""
    if len(data) <= STEP_BYTES:
        return _LONG in data.translate(_ANY_DIGIT_AS_0)
    return any(
        _LONG in data[at : at + STEP_BYTES + _LONG_DIGITS - 1].translate(_ANY_DIGIT_AS_0)
        for at in range(0, len(data), STEP_BYTES)
    )


def read_json_in_steps(text: bytes) -> Any:
    """The value of a JSON text as `read_json` has it, read piece by piece, so that other threads run in between.

    Raises:
        orjson.JSONDecodeError: as `read_json` does.
    """
    return _read_pieces(text, _SPLIT_LEVELS)


_split = msgspec.json.Decoder(list[msgspec.Raw] | dict[str, msgspec.Raw]).decode


def _read_pieces(text: bytes, levels: int) -> Any:
    if len(text) <= STEP_BYTES or not levels:
        return read_json(text)
    try:
        pieces = _split(text)
    except msgspec.ValidationError:  # neither a list nor an object
        return read_json(text)
    except msgspec.DecodeError as exc:
        said, _, place = str(exc).removesuffix(")").partition(" (byte ")
        raise _fault_at(text, int(place) if place.isdecimal() else len(text), said) from None
    except (ValueError, RecursionError):  # no UTF-8, or too deep: the reader says so at once
        return read_json(text)
    if isinstance(pieces, dict):
        return dict(zip(pieces, _read_row(text, list(pieces.values()), levels - 1), strict=True))
    return _read_row(text, pieces, levels - 1)


def _read_row(text: bytes, pieces: Sequence[msgspec.Raw], levels: int) -> list[Any]:
    """The values of the pieces of a text, of which small ones are read together."""
    values: list[Any] = []
    together = max(1, STEP_BYTES * len(pieces) // len(text))
    for at in range(0, len(pieces), together):
        some = pieces[at : at + together]
        row = b"[%b]" % b",".join(some)
        if len(row) <= 2 * STEP_BYTES:
            with suppress(orjson.JSONDecodeError):  # each by itself tells where
                values += read_json(row)
                continue
        values += [_read_piece(text, bytes(raw), levels) for raw in some]
    return values


def _read_piece(text: bytes, piece: bytes, levels: int) -> Any:
    try:
        return _read_pieces(piece, levels)
    except orjson.JSONDecodeError as exc:  # its like would have been refused before, so this is the first of its kind
        raise _fault_at(text, max(0, text.find(piece)) + len(exc.doc[: exc.pos].encode()), exc.msg) from None


def _fault_at(text: bytes, place: int, message: str) -> orjson.JSONDecodeError:
    return orjson.JSONDecodeError(message, text.decode(errors="replace"), len(text[:place].decode(errors="replace")))


def read_event_json(text: bytes) -> Any:
    """The value of a JSON text in which `NaN` and `Infinity` may stand without quotes, and numbers beyond floats.

    Raises as `read_json` does.
    """
    return read_json(quote_bare_numbers(text))


# Possessive, and also a string without an end: else each quote in that would be tried as a beginning, up to the end.
_BARE = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"?|(?:(?:NaN|-?Infinity)'
    rb"|(?<![0-9.eE+-])-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]{1,400})?[eE]\+?[0-9]{3,400})"
    rb"(?=\s*(?:[,\]}]|\Z))",
    re.DOTALL,
)
_MAY_BE_BEYOND = re.compile(rb"[eE]\+?[0-9]{3}")


def quote_bare_numbers(text: bytes) -> bytes:
    """JSON text in which `NaN`, `Infinity` and `-Infinity`, which Python's json writes, are strings of that name.

    So is a number with an exponent that is beyond 64-bit floats, such as `1e400`: it is as infinite as they are to
    whoever computes with it, and no reader here takes it.
    """
    if b"NaN" not in text and b"Infinity" not in text and not _MAY_BE_BEYOND.search(text):
        return text
    return _BARE.sub(_quoted, text)


def _quoted(found: re.Match[bytes]) -> bytes:
    token = found[0]
    if token.startswith(b'"'):
        return token
    if token[-1:].isdigit():
        number = float(token)
        if math.isfinite(number):
            return token
        token = b"Infinity" if number > 0 else b"-Infinity"
    return b'"%s"' % token


def _nests_deeper(value: object, levels: int) -> bool:
    """Whether lists and objects lie in one another more than `levels` deep."""
    layer: list[Any] = [value]
    for _ in range(levels + 1):
        layer = [one for one in layer if isinstance(one, list | dict)]
        if not layer:
            return False
        layer = [inner for one in layer for inner in (one.values() if isinstance(one, dict) else one)]
    return True


def write_json(value: object) -> bytes:
    """A value as compact JSON text. Raises TypeError for what JSON can't hold, lone surrogates included."""
    try:
        return orjson.dumps(value)
    except TypeError as exc:
        if "64-bit" not in str(exc):
            raise
    try:
        return msgspec.json.encode(value)
    except ValueError as exc:  # half a character, or more digits than Python writes
        raise TypeError(str(exc)) from None


def write_indented_json(value: object) -> str:
    """A value as JSON text of many lines, moments of UTC with a `Z`. Raises TypeError as `write_json` does."""
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode()
    except TypeError:
        return msgspec.json.format(write_json(value), indent=2).decode()


def has_few_digits(number: int) -> bool:
    """Whether a whole number is one that every part can read and write."""
    return _LEAST < number < _GREATEST
