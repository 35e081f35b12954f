"""Rules: Hookline's filter and template languages over the body of any webhook.

A rule's `when` is a filter whose fields are `body.<path>`, `item.<path>` and `header.<name>`; its `id`, `time` and
`data` are templates in which `${body.<path>}` and so on stand for the values. A string that is one place becomes the
value with its type. `each` names a list of the body, for whose items the rule is applied one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from shared.domain.errors import FieldError, HooklineError, InvalidDefinition, Loc
from shared.domain.events.decoding import check_event
from shared.domain.events.limits import MAX_BATCH_BYTES
from shared.domain.events.types import PUBLISHED_TYPES, EventType
from shared.domain.filters.budget import EVENT_UNITS, FilterBudget, FilterTooCostly
from shared.domain.filters.filters import MISSING, Filter, Getter, parse_filter
from shared.domain.json_text import write_json
from shared.domain.sources.bodies import value_at

MAX_RULES: Final = 50
MAX_ITEMS: Final = 200
"""For how many items of a list, and to how many events, one request may lead."""
MAX_TEMPLATE_VALUES: Final = 1000
MAX_TEMPLATE_CHARS: Final = 64 << 10
MAX_TEMPLATE_DEPTH: Final = 20
MAX_INSERTED_BYTES: Final = 1 << 20
"""How much of a body one event may take over; all events of a request together `MAX_BATCH_BYTES`."""
MAX_TRIALS: Final = 100_000
"""How often a request's rules are tried: on each event of Event Grid's, and on each item of their lists."""
REQUEST_UNITS: Final = 10 * EVENT_UNITS
"""The work of all filters of a request: a quarter of a second at worst."""
HIDDEN_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
_PLACE = re.compile(r"\$(?:(?P<literal>\$)|\{(?:(?P<name>[^${}]*)\})?)")
_NAMES = "body, body.<path>, header.<name>, delivery_id"
DELIVERY_ID: Final = "delivery_id"


@dataclass(frozen=True, slots=True)
class RuleSubject:
    """What a rule reads: a decoded body, the headers, the delivery's id, and the item where it has `each`."""

    body: object
    headers: Mapping[str, str]
    delivery_id: str
    item: object = MISSING


class RuleFailed(HooklineError):
    """A rule can't be applied to a request; the text says why, without values."""


class RequestBudget:
    """What one request may cost all rules together, so that no sender and no definition holds up others."""

    def __init__(self) -> None:
        self.filters = FilterBudget(REQUEST_UNITS)
        self._trials = self._bytes = 0

    def take_trial(self) -> None:
        """Count that a rule is tried. Raises RuleFailed when that was too often."""
        self._trials += 1
        if self._trials > MAX_TRIALS:
            raise RuleFailed(f"the rules would be tried more than {MAX_TRIALS} times on this request")

    def take_bytes(self, size: int) -> None:
        """Count what events take over. Raises RuleFailed when that is too much."""
        self._bytes += size
        if self._bytes > MAX_BATCH_BYTES:
            raise RuleFailed(f"the events would take over more than {MAX_BATCH_BYTES} bytes of the body together")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, checked and compiled."""

    when: Filter
    holds: Callable[[RuleSubject], bool]
    each: str | None
    type: EventType
    id: object
    time: object
    data: object

    def subjects(self, subject: RuleSubject) -> Iterator[RuleSubject]:
        """The subject itself, or with each item of the rule's list. Raises RuleFailed for too many."""
        if self.each is None:
            yield subject
            return
        items = read_name(subject, self.each)
        if not isinstance(items, list):
            return
        if len(items) > MAX_ITEMS:
            raise RuleFailed(f"the list {self.each} has more than {MAX_ITEMS} items")
        for item in items:
            yield RuleSubject(subject.body, subject.headers, subject.delivery_id, item)


def read_name(subject: RuleSubject, name: str) -> object:
    """The value that a name stands for; MISSING where there is none."""
    of, _, path = name.partition(".")
    if name == DELIVERY_ID:
        return subject.delivery_id
    if of == "header":
        return subject.headers.get(path.lower(), MISSING)
    return value_at(subject.item if of == "item" else subject.body, path, MISSING)


def name_fault(name: str, *, in_list: bool, hidden: frozenset[str]) -> str | None:
    """Why a rule may not read this; None where it may."""
    of, dot, path = name.partition(".")
    known = f"{_NAMES}{', item, item.<path>' if in_list else ''}"
    if of == "header":
        if dot and path.lower() in hidden:
            return "must not be a header that carries the proof: it holds the secret"
        return None if dot and path else f"must be one of {known}"
    if name == DELIVERY_ID or ((of == "body" or (of == "item" and in_list)) and (path or not dot)):
        return None
    return f"must be one of {known}"


def parse_rule(raw: Mapping[str, Any], *, project: str | None, proof_header: str | None) -> Rule:
    """A rule from its definition, whose form pydantic has checked already.

    Args:
        raw: with the members `when`, `each`, `type`, `id`, `time` and `data`.
        project: the source's own, which `data` may leave out then.
        proof_header: the header that holds the source's proof, which no rule may read; None without one.

    Raises:
        InvalidDefinition: with every fault at its place.
    """
    faults: list[FieldError] = []
    hidden = HIDDEN_HEADERS if proof_header is None else HIDDEN_HEADERS | {proof_header}
    each = raw.get("each")
    if each is not None and (fault := name_fault(each, in_list=False, hidden=hidden)):
        faults.append(FieldError(("each",), fault))
    check = partial(name_fault, in_list=each is not None, hidden=hidden)
    when = None
    try:
        when = parse_filter(raw.get("when") or {}, check)
    except InvalidDefinition as exc:
        faults += exc.under("when").errors
    event_type = EventType(raw["type"])
    if event_type not in PUBLISHED_TYPES:
        faults.append(FieldError(("type",), f"must be one of {', '.join(PUBLISHED_TYPES)}"))
    templates = {"id": raw.get("id") or f"${{{DELIVERY_ID}}}", "time": raw.get("time"), "data": raw["data"]}
    for member, template in templates.items():
        faults += (fault.under(member) for fault in _template_faults(template, check))
    if not faults:
        faults += _missing_members(event_type, raw["data"], project)
    if faults or when is None:
        raise InvalidDefinition(*faults)
    return Rule(when=when, holds=when.compile(_getter), each=each, type=event_type, **templates)


def _getter(name: str) -> Getter[RuleSubject]:
    return lambda subject: read_name(subject, name)


def holds(rule: Rule, subject: RuleSubject, budget: RequestBudget) -> bool:
    """Whether a rule applies. Raises RuleFailed where the filters would take too long on this body."""
    budget.take_trial()
    with budget.filters.applied():
        try:
            return rule.holds(subject)
        except FilterTooCostly:
            raise RuleFailed("the filter `when` would take too long on this body") from None


def _template_faults(template: object, check: Callable[[str], str | None]) -> list[FieldError]:
    faults: list[FieldError] = []
    counted = [0, 0]

    def look(value: object, loc: Loc) -> None:
        counted[0] += 1
        if len(loc) > MAX_TEMPLATE_DEPTH or counted[0] > MAX_TEMPLATE_VALUES or counted[1] > MAX_TEMPLATE_CHARS:
            raise InvalidDefinition.at(
                loc[:1],
                f"must have at most {MAX_TEMPLATE_VALUES} values, {MAX_TEMPLATE_DEPTH} levels "
                f"and {MAX_TEMPLATE_CHARS} characters",
            )
        if isinstance(value, dict):
            for key, member in value.items():
                counted[1] += len(key)
                look(member, (*loc, key))
        elif isinstance(value, list):
            for place, member in enumerate(value):
                look(member, (*loc, place))
        elif isinstance(value, str):
            counted[1] += len(value)
            faults.extend(FieldError(loc, fault) for fault in _text_faults(value, check))

    try:
        look(template, ())
    except InvalidDefinition as exc:
        return [*faults, *exc.errors]
    return faults[:20]


def _text_faults(text: str, check: Callable[[str], str | None]) -> Iterator[str]:
    for match in _PLACE.finditer(text):
        if match["literal"]:
            continue
        if match["name"] is None:
            yield "`${` begins a place and must be closed: `${body.name}`; `$$` writes a literal `$`"
        elif fault := check(match["name"].partition(":-")[0]):
            yield f"`${{…}}` {fault}; `${{name:-text}}` gives a default, and `$$` writes a literal `$`"


def _missing_members(event_type: EventType, data: object, project: str | None) -> list[FieldError]:
    """What the type's events need and the rule's `data` does not say, whatever a request brings."""
    if not isinstance(data, dict):
        return [FieldError(("data",), "must be an object")]
    filled = {**({"project": project} if project else {}), **_sample(data), "entity": "entity"}
    candidate = {"specversion": "1.0", "id": "id", "source": "source", "type": str(event_type), "data": filled}
    try:
        check_event(candidate)
    except InvalidDefinition as exc:
        return [fault for fault in exc.errors if fault.msg == "is required" and fault.loc[:1] == ("data",)]
    return []


def _sample(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _sample(member) for key, member in value.items()}
    return value


def filled(template: object, subject: RuleSubject, budget: RequestBudget) -> Any:
    """A template with the values of a request; MISSING when it is one place that has none.

    A place without a value and without a default is blank inside a string, and left out where it is all of a member.

    Raises:
        RuleFailed: when it would take over too much.
    """
    return _Filling(subject, budget).of(template)


def filled_id(template: object, subject: RuleSubject, budget: RequestBudget) -> object:
    """A rule's `id`, whose places all have to have values: without them different facts would have the same id.

    Raises:
        RuleFailed: when one has none, or when the id is blank.
    """
    filling = _Filling(subject, budget)
    made = filling.of(template)
    if filling.without_value:
        named = filling.without_value[0]
        raise RuleFailed(f"the rule's `id` would be that of other events too: {named} has no value, and no default")
    if made == "":
        raise RuleFailed("the rule's `id` would be blank, and so that of other events too")
    return made


class _Filling:
    def __init__(self, subject: RuleSubject, budget: RequestBudget) -> None:
        self._subject = subject
        self._budget = budget
        self._bytes = 0
        self.without_value: list[str] = []
        """The places for which nothing stood, by name."""

    def of(self, template: object) -> Any:
        if isinstance(template, dict):
            members = ((self._text(key), self.of(value)) for key, value in template.items())
            return {key: value for key, value in members if value is not MISSING}
        if isinstance(template, list):
            return [value for value in map(self.of, template) if value is not MISSING]
        if not isinstance(template, str):
            return template
        whole = _PLACE.fullmatch(template)
        return self._value(whole["name"]) if whole is not None and whole["name"] is not None else self._text(template)

    def _text(self, template: str) -> str:
        return _PLACE.sub(self._piece, template)

    def _piece(self, match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        value = self._value(match["name"])
        if value is MISSING or value is None:
            return ""
        return value if isinstance(value, str) else _written(value).decode()

    def _value(self, place: str) -> object:
        name, given, default = place.partition(":-")
        value = read_name(self._subject, name)
        if given and (value is MISSING or value is None or value == ""):
            return default
        if value is MISSING or value is None or value == "":
            self.without_value.append(name)
            return value
        size = len(value) if isinstance(value, str) else len(_written(value))
        self._bytes += size
        if self._bytes > MAX_INSERTED_BYTES:
            raise RuleFailed(f"the event would take over more than {MAX_INSERTED_BYTES} bytes of the body")
        self._budget.take_bytes(size)
        return value


def _written(value: object) -> bytes:
    try:
        return write_json(value)
    except TypeError:
        raise RuleFailed("a value that the event would take over nests too deeply") from None
