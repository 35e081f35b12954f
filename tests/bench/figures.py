"""A figure: one measured number, its rounds, what it is compared with in the same run, and what it is to reach."""

from __future__ import annotations

import operator
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with all its rounds; the median is what counts."""

    area: str
    name: str
    unit: str
    rounds: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None
    against: str = ""
    """What it is compared with: a rival, or a limit that nothing can pass."""
    reference: tuple[float, ...] = ()
    """The rounds of that, in the same unit."""
    ratio_at_least: float | None = None
    ratio_at_most: float | None = None
    promise: bool = False
    """Whether missing it is a fault, as a lost delivery is, and no matter of speed."""

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.rounds)

    @property
    def compared(self) -> float | None:
        """The median of what it is compared with."""
        return statistics.median(self.reference) if self.reference else None

    @property
    def ratio(self) -> float | None:
        """The figure over what it is compared with."""
        return self.median / self.compared if self.compared else None

    @property
    def demands(self) -> list[Demand]:
        """What is demanded of the figure and of its ratio."""
        given = (
            (self.median, "≥", self.at_least),
            (self.median, "≤", self.at_most),
            (self.ratio, "≥", self.ratio_at_least),
            (self.ratio, "≤", self.ratio_at_most),
        )
        return [
            Demand(value, sign, bound, of_ratio=place > 1)
            for place, (value, sign, bound) in enumerate(given)
            if value is not None and bound is not None
        ]

    @property
    def reached(self) -> bool | None:
        """Whether the medians are as demanded; None where nothing is."""
        return all(one.met for one in self.demands) if self.demands else None

    def to_json(self) -> dict[str, Any]:
        """Everything, with what is worked out from the rounds."""
        worked_out = {"median": self.median, "compared": self.compared, "ratio": self.ratio, "reached": self.reached}
        return {**asdict(self), **worked_out}


@dataclass(frozen=True, slots=True)
class Demand:
    """A bound, and the value that is held to it."""

    value: float
    sign: str
    bound: float
    of_ratio: bool

    @property
    def met(self) -> bool:
        """Whether the value keeps the bound."""
        holds: Callable[[float, float], bool] = operator.ge if self.sign == "≥" else operator.le
        return holds(self.value, self.bound)

    @property
    def attained(self) -> float:
        """How much of what is demanded is there: 1 is just enough, 2 is twice as good."""
        if self.sign == "≥":
            return self.value / self.bound if self.bound else 1.0
        return self.bound / self.value if self.value else 1.0

    def __str__(self) -> str:
        return f"{self.sign} {_number(self.bound)}{' times' if self.of_ratio else ''}"


def figures_table(figures: Sequence[Figure]) -> Table:
    """Medians with the span of their rounds, what they are compared with, and what was to be reached."""
    table = Table(title="Figures (medians of rounds)", title_justify="left")
    for heading in ("area", "what"):
        table.add_column(heading)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("baseline or limit")
    for heading in ("its figure", "ratio", "to reach"):
        table.add_column(heading, justify="right")
    table.add_column("", no_wrap=True)
    area = ""
    for one in figures:
        if one.area != area and area:
            table.add_section()
        verdict = {True: "reached", False: "MISSED", None: ""}[one.reached]
        demand = ", ".join(map(str, one.demands))
        compared = _optional(one.compared), _optional(one.ratio)
        head = "" if one.area == area else one.area
        table.add_row(head, one.name, _with_span(one.rounds), one.unit, one.against, *compared, demand, verdict)
        area = one.area
    return table


def _with_span(rounds: Sequence[float]) -> str:
    middle, low, high = _number(statistics.median(rounds)), _number(min(rounds)), _number(max(rounds))
    return middle if low == high else f"{middle} ({low}-{high})"


def _optional(value: float | None) -> str:
    return "" if value is None else _number(value)


def _number(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"
