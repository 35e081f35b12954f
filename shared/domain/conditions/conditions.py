"""Metric conditions as they are defined: threshold, change, z-score and finite, read from JSON or YAML and back.

This module says what a condition is and refuses what it is not. It must not hold samples or decide whether a
condition holds: that is `shared.domain.conditions.windows`. The kinds, their defaults and the inclusive comparison of
change and z-score follow W&B's documentation of automation events (run metrics).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.models import Name

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_CONDITIONS = 20
MAX_WINDOW = 1000
"""The most values that a window may have. They are part of the run's state, eight bytes each, which is stored again
whenever the run's metric has new values."""
MAX_KEPT_VALUES = 4000
"""How many values of a run's metrics the conditions of an automation may need, of each metric its longest window."""


class _Word(StrEnum):
    """A word of the definition language, read in any case and written in one."""

    @classmethod
    def _missing_(cls, value: object) -> _Word | None:
        wanted = value.lower() if isinstance(value, str) else None
        return next((word for word in cls if word.value.lower() == wanted), None)


class Aggregate(_Word):
    """How the values of a window become one."""

    MAX = "MAX"
    MIN = "MIN"
    AVERAGE = "AVERAGE"


class Op(_Word):
    """How a threshold condition compares; `$eq` and `$ne` are exact, no tolerance is added."""

    GT = "$gt"
    GTE = "$gte"
    LT = "$lt"
    LTE = "$lte"
    EQ = "$eq"
    NE = "$ne"


class ChangeType(_Word):
    """Whether a change is the difference itself or its fraction of the prior value (0.1 is 10 %)."""

    ABSOLUTE = "ABSOLUTE"
    RELATIVE = "RELATIVE"


class Direction(_Word):
    """The way a metric has to move."""

    INCREASE = "INCREASE"
    DECREASE = "DECREASE"
    ANY = "ANY"


_VERBS = {Direction.INCREASE: "rises", Direction.DECREASE: "falls", Direction.ANY: "moves"}

# The descriptions below serve the JSON Schema and the error messages.
_Metric = Annotated[
    Name, Field(strict=True, description="a metric name of 1 to 512 characters without control characters")
]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False, description="a finite number")]
_Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False, description="a finite number above 0")]
_Window = Annotated[int, Field(strict=True, ge=1, le=MAX_WINDOW, description=f"a whole number from 1 to {MAX_WINDOW}")]
_WideWindow = Annotated[
    int, Field(strict=True, ge=2, le=MAX_WINDOW, description=f"a whole number from 2 to {MAX_WINDOW}")
]
_AGGREGATE = "one of MAX, MIN, AVERAGE, or nothing for single values"
_DIRECTION = "one of INCREASE, DECREASE, ANY"


class _Definition(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Aggregated(_Definition):
    """The members that threshold and change share: a metric, and perhaps an aggregate over windows."""

    metric: _Metric
    aggregate: Aggregate | None = Field(default=None, description=_AGGREGATE)

    @field_validator("window", "prior_window", check_fields=False)
    @classmethod
    def _single_value_without_aggregate(cls, value: int, info: ValidationInfo) -> int:
        """Without an aggregate a window is accepted but means nothing (as in W&B): single values count."""
        return value if info.data.get("aggregate") else 1

    def _subject(self, window: int) -> str:
        return f"{self.aggregate} of {self.metric} over {window}" if self.aggregate else self.metric


class ThresholdCondition(_Aggregated):
    """The newest value of a metric, or the aggregate of its last `window` values, against a threshold."""

    window: _Window = Field(default=5, validate_default=True)
    op: Op = Field(description=f"one of {' '.join(Op)}")
    threshold: _Number

    @property
    def needed_values(self) -> int:
        """How many of the newest values decide it."""
        return self.window

    @property
    def reported_threshold(self) -> float:
        """The payload variable `metric_threshold`."""
        return self.threshold

    @property
    def text(self) -> str:
        """The condition as a short sentence."""
        return f"{self._subject(self.window)} {self.op} {_plain(self.threshold)}"


class Change(_Definition):
    """By how much, and which way, a metric has to move."""

    type: ChangeType = Field(default=ChangeType.RELATIVE, description="one of ABSOLUTE, RELATIVE")
    direction: Direction = Field(default=Direction.ANY, description=_DIRECTION)
    amount: _Positive


class ChangeCondition(_Aggregated):
    """The last `window` values of a metric against the `prior_window` values right before them."""

    change: Change = Field(description="an object with amount, and optionally type and direction")
    window: _Window = Field(default=10, validate_default=True)
    prior_window: _Window = Field(default=50, validate_default=True)

    @property
    def needed_values(self) -> int:
        """How many of the newest values decide it."""
        return self.window + self.prior_window

    @property
    def reported_threshold(self) -> float:
        """The payload variable `metric_threshold`."""
        return self.change.amount

    @property
    def text(self) -> str:
        """The condition as a short sentence."""
        by = f"{_VERBS[self.change.direction]} by at least {_plain(self.change.amount)} ({self.change.type})"
        before = "value before" if self.prior_window == 1 else f"{self.prior_window} values before"
        return f"{self._subject(self.window)} {by} against the {before}"


class ZScore(_Definition):
    """How many standard deviations away, and which way, counts as an outlier."""

    direction: Direction = Field(default=Direction.ANY, description=_DIRECTION)
    threshold: _Positive = 3.0


class ZScoreCondition(_Definition):
    """The newest value of a metric against mean and standard deviation of the `window` values before it."""

    metric: _Metric
    zscore: ZScore = Field(description="an object with, optionally, direction and threshold")
    window: _WideWindow = 30

    @property
    def needed_values(self) -> int:
        """How many of the newest values decide it: the window, and the value that it judges."""
        return self.window + 1

    @property
    def reported_threshold(self) -> float:
        """The payload variable `metric_threshold`."""
        return self.zscore.threshold

    @property
    def text(self) -> str:
        """The condition as a short sentence."""
        by = f"{_VERBS[self.zscore.direction]} by at least {_plain(self.zscore.threshold)}"
        return f"{self.metric} {by} standard deviations from the mean of the {self.window} values before"


class FiniteCondition(_Definition):
    """Whether the newest value of a metric is a finite number: with `finite: false`, whether it is NaN or infinite."""

    metric: _Metric
    finite: Annotated[bool, Field(strict=True, description="true or false")]

    @property
    def needed_values(self) -> int:
        """How many of the newest values are kept for it: none is needed, one is the least."""
        return 1

    @property
    def reported_threshold(self) -> None:
        """It compares with nothing."""
        return

    @property
    def text(self) -> str:
        """The condition as a short sentence."""
        return f"{self.metric} is {'a' if self.finite else 'no'} finite number"


Condition: TypeAlias = ThresholdCondition | ChangeCondition | ZScoreCondition | FiniteCondition

_KIND_OF_KEY: dict[str, type[Condition]] = {
    "op": ThresholdCondition,
    "threshold": ThresholdCondition,
    "change": ChangeCondition,
    "zscore": ZScoreCondition,
    "finite": FiniteCondition,
}
CONDITION_MODELS: tuple[type[Condition], ...] = tuple(dict.fromkeys(_KIND_OF_KEY.values()))
WORDS: tuple[type[StrEnum], ...] = tuple(_Word.__subclasses__())
"""Those that are read in any case."""
_SECTIONS: dict[str, type[_Definition]] = {"change": Change, "zscore": ZScore}
_KINDS = "an object of exactly one kind: with op and threshold, with change, with zscore, or with finite"


def parse_conditions(raw: object) -> tuple[Condition, ...]:
    """Read the `conditions` of a definition: a list of 1 to 20 objects, as decoded from JSON or YAML.

    The keys of each tell its kind.

    Raises:
        InvalidDefinition: with all faults of all conditions; each `loc` is relative to the list, e.g. `(0, "window")`.
    """
    if not isinstance(raw, list) or not 1 <= len(raw) <= MAX_CONDITIONS:
        raise InvalidDefinition.at((), f"expected a list of 1 to {MAX_CONDITIONS} conditions")
    conditions: list[Condition] = []
    faults: list[FieldError] = []
    for index, item in enumerate(raw):
        try:
            conditions.append(_parse_condition(item))
        except InvalidDefinition as refusal:
            faults.extend(refusal.under(index).errors)
    if faults:
        raise InvalidDefinition(*faults)
    if (kept := sum(needed_values(conditions).values())) > MAX_KEPT_VALUES:
        message = f"would keep {kept:,} values of each run, windows taken together; at most {MAX_KEPT_VALUES:,} are"
        raise InvalidDefinition.at((), f"{message} accepted: use smaller windows, or fewer metrics")
    return tuple(conditions)


def needed_values(conditions: Iterable[Condition]) -> dict[str, int]:
    """How many of the newest values of each watched metric have to be kept, in the order of the conditions."""
    needed: dict[str, int] = {}
    for condition in conditions:
        needed[condition.metric] = max(needed.get(condition.metric, 0), condition.needed_values)
    return needed


def condition_to_json(condition: Condition) -> dict[str, object]:
    """The definition as `parse_conditions` reads it back: defaults spelled out, no keys that mean nothing."""
    meaningless = (
        {"aggregate", "window", "prior_window"}
        if isinstance(condition, _Aggregated) and condition.aggregate is None
        else None
    )
    return condition.model_dump(mode="json", exclude=meaningless)


def _parse_condition(raw: object) -> Condition:
    if not isinstance(raw, dict):
        raise InvalidDefinition.at((), f"expected {_KINDS}")
    kinds = {kind for key, kind in _KIND_OF_KEY.items() if key in raw}
    if len(kinds) != 1:
        raise InvalidDefinition.at((), f"expected {_KINDS}")
    kind = kinds.pop()
    try:
        return kind.model_validate(raw)
    except ValidationError as refusal:
        faults = (_fault(kind, error) for error in refusal.errors(include_input=False, include_url=False))
        raise InvalidDefinition(*faults) from refusal


def _fault(model: type[_Definition], error: ErrorDetails) -> FieldError:
    """A pydantic error in our words: what is accepted is the field's description."""
    *section, name = error["loc"]
    fields = (_SECTIONS[str(section[0])] if section else model).model_fields
    field = fields.get(str(name))
    if field is None:
        return FieldError(error["loc"], f"unknown field, expected only {', '.join(fields)}")
    required = "required, " if error["type"] == "missing" else ""
    return FieldError(error["loc"], f"{required}expected {field.description}")


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")
