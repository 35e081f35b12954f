"""Rules over answers: which statuses are retried, and what an answer must be like to count as a success.

A success rule's body is a filter (`shared.domain.filters`) over the answer's JSON, and `$regex` and `$contains` that
stand by themselves are over its text. It judges the beginning of the body that is kept, `SHOWN_BYTES` of it. Must not
put anything of an answer into its words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, field_validator, model_validator
from pydantic_core import from_json

from shared.domain.errors import InvalidDefinition, Loc
from shared.domain.events.members import member_at
from shared.domain.filters.filters import MISSING, Filter, Predicate, parse_filter
from shared.domain.filters.patterns import pattern_of
from shared.domain.payloads.masking import shown

MAX_STATUSES: Final = 100
MAX_INSTRUCTIONS: Final = 500
"""How many instructions of RE2 the patterns of a rule may have together: each answer may cost that many for each byte,
on the event loop that serves all requests. That is 6 ms at worst."""
MAX_RULE_CHARS: Final = 8_000
TEXT: Final = "(the body)"
"""The name under which a rule's filter has the body's text."""
_ON_TEXT: Final = ("$regex", "$contains")
_LISTS: Final = ("$and", "$or", "$nor")
_MAX_DEPTH: Final = 32
_CLASSES: Final = {"2xx": 2, "3xx": 3, "4xx": 4, "5xx": 5}


def _status(value: object) -> object:
    if (isinstance(value, str) and value in _CLASSES) or (type(value) is int and 200 <= value <= 599):
        return value
    raise ValueError('must be a status from 200 to 599, such as 404, or a class of them, such as "5xx"')


def _refused_status(value: object) -> object:
    if value == "2xx" or (type(value) is int and 200 <= value <= 299):
        raise ValueError("must not be 2xx, which is a success: a success rule says which answers are none")
    return _status(value)


def _schema(*classes: str, least: int) -> WithJsonSchema:
    number = {"type": "integer", "minimum": least, "maximum": 599}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "enum": list(classes)}]})


Status = Annotated[int | str, PlainValidator(_status), _schema(*_CLASSES, least=200)]
"""A status, or a class of them such as `5xx`."""
RefusedStatus = Annotated[int | str, PlainValidator(_refused_status), _schema("3xx", "4xx", "5xx", least=300)]
"""As `Status`, without 2xx."""


def includes(statuses: tuple[int | str, ...], status: int) -> bool:
    """Whether a status is among statuses and classes. One below 100 or from 600 on counts as 5xx, as an answer does."""
    return status in statuses or class_of(status) in statuses


def class_of(status: int) -> str:
    """The class of a status; `5xx` for an invalid one and for one that can't end a request (RFC 9110, section 15)."""
    return f"{status // 100}xx" if 2 <= status // 100 <= 4 else "5xx"


@dataclass(frozen=True, slots=True)
class _Body:
    """An answer's body, as a rule's filter sees it."""

    text: str
    members: Mapping[str, Any] | None
    """None where it is no JSON object."""


class SuccessRule(BaseModel):
    """What an answer must be like to count as a success; what it names must all hold."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, json_schema_extra={"minProperties": 1}
    )

    status: tuple[Status, ...] = Field(default=("2xx",), min_length=1, max_length=MAX_STATUSES, strict=False)
    """Statuses and classes of them."""
    body: dict[str, Any] = {}
    """Over the answer's first 4 KiB: a filter over the members of its JSON, such as `{ok: true}`, or `{$regex: …}` and
    `{$contains: …}` over its text; `{}` takes any body."""

    @field_validator("body")
    @classmethod
    def _parsed(cls, value: dict[str, Any]) -> dict[str, Any]:
        parsed = _parse(value)
        patterns = sum(pattern_of(one).size for one in parsed.patterns)
        if patterns > MAX_INSTRUCTIONS:
            raise ValueError(
                f"must have smaller patterns: they have {patterns} instructions together, and at most "
                f"{MAX_INSTRUCTIONS} are accepted"
            )
        if parsed.chars > MAX_RULE_CHARS:
            raise ValueError(f"must have at most {MAX_RULE_CHARS} characters in names and values")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> SuccessRule:
        if not self.model_fields_set:
            raise ValueError("must have status, body or both; null stands for any 2xx")
        return self

    def failure(self, status: int, body: str, *, cut: bool) -> str | None:
        """Why an answer is no success, in the words of the rule; None where it is one.

        Args:
            status: the answer's.
            body: its beginning, as text.
            cut: whether it goes on after that.
        """
        if not includes(self.status, status):
            return f"{status} is not among the statuses of its success rule"
        if self._filter.matches_everything:
            return None
        text = shown(body)
        subject = _Body(text, _members(text, cut=cut or len(text) < len(body)))
        return None if self._holds(subject) else self._words(subject)

    def _words(self, subject: _Body) -> str:
        missed = next(self._filter.explain(_getter, subject).decisive(), None)
        rule = "" if missed is None else f": {missed.text}"
        return f"its body does not pass its success rule{rule}"

    @cached_property
    def _filter(self) -> Filter:
        return _parse(self.body)

    @cached_property
    def _holds(self) -> Predicate[_Body]:
        return self._filter.compile(_getter)


def _parse(body: dict[str, Any]) -> Filter:
    """The filter of a rule's body. Raises ValueError, naming each fault with its place."""
    try:
        return parse_filter(_over_text(body, 0), lambda _field: None)
    except InvalidDefinition as exc:
        raise ValueError("; ".join(_told(one.loc, one.msg) for one in exc.errors[:20])) from None


def _told(loc: Loc, message: str) -> str:
    place = ".".join(str(part) for part in loc if part != TEXT)
    return f"{place} {message}" if place else message


def _over_text(expression: object, depth: int) -> object:
    """The expression with `$regex` and `$contains` that stand by themselves put under the body's text."""
    if not isinstance(expression, dict) or depth > _MAX_DEPTH:
        return expression
    found = {key: expression[key] for key in _ON_TEXT if key in expression}
    rest = {key: _within(key, value, depth) for key, value in expression.items() if key not in found}
    return {TEXT: found, **rest} if found else rest


def _within(key: object, value: object, depth: int) -> object:
    if key in _LISTS and isinstance(value, list):
        return [_over_text(one, depth + 1) for one in value]
    return _over_text(value, depth + 1) if key == "$not" else value


def _getter(path: str) -> Callable[[_Body], object]:
    if path == TEXT:
        return lambda body: body.text
    return lambda body: MISSING if body.members is None else member_at(body.members, path, MISSING)


def _members(text: str, *, cut: bool) -> Mapping[str, Any] | None:
    """The members of a JSON object, as far as they are there; None where the text is none.

    A mark before it, as some servers on Windows begin a text, is no part of it (RFC 8259, section 8.1).
    """
    text = text.removeprefix("\ufeff")
    if cut:
        text = text.rstrip("0123456789.eE+-")  # a number at the end may go on
    try:
        value = from_json(text.encode("utf-8", "surrogatepass"), allow_partial=cut, cache_strings=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
