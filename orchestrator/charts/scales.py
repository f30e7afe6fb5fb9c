"""Where the values of a setting stand on an axis from 0 to 1: by size, by decades, or side by side.

Contract: any value has a place: numbers, booleans, none, mappings, long texts, and the value of a trial that has no
such setting (`ABSENT`). What is no number on an axis of numbers stands aside, below 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.charts.style import number, plain

ABSENT = object()
"""Stands for the value of a setting that a trial does not have, because another one rules it out."""

_LOG_RATIO = 20
_MOST_PLACES = 4
_MOST_LABELS = 24
_LONGEST = 20
_STEP_ASIDE = 0.11


@dataclass(frozen=True)
class Scale:
    """An axis for one setting."""

    kind: Literal["category", "linear", "log"]
    low: float
    high: float
    """Of the numbers; without meaning for categories."""
    names: tuple[str, ...]
    """The categories in order; on an axis of numbers what stands aside."""
    ticks: tuple[tuple[float, str], ...]
    """Place and label."""

    @property
    def bottom(self) -> float:
        """The lowest place in use."""
        return min(0.0, *(place for place, _ in self.ticks), 0.0)

    def place(self, value: Any) -> float:
        """Where a value stands."""
        found = number(value)
        if self.kind == "category" or found is None:
            return _slot(self.kind, self.names.index(value_text(value)), len(self.names))
        if self.low == self.high:
            return 0.5
        turn = math.log if self.kind == "log" else float
        return (turn(found) - turn(self.low)) / (turn(self.high) - turn(self.low))


def scale_of(values: Sequence[Any]) -> Scale:
    """The axis that suits these values: numbers from a range by size, a few that come again side by side."""
    numbers = [found for value in values if (found := number(value)) is not None]
    others = [value for value in values if number(value) is None]
    if not _from_a_range(numbers):
        names = tuple(dict.fromkeys([value_text(value) for value in [*sorted(numbers), *sorted(others, key=_order)]]))
        return Scale("category", 0, 1, names, _labels("category", names))
    low, high = min(numbers), max(numbers)
    log = low > 0 and high / low >= _LOG_RATIO
    names = tuple(dict.fromkeys(value_text(value) for value in sorted(others, key=_order)))
    scale = Scale("log" if log else "linear", low, high, names, ())
    marks = [(scale.place(mark), value_text(mark)) for mark in (_decades if log else _steps)(low, high)]
    return Scale(scale.kind, low, high, names, (*marks, *_labels(scale.kind, names)))


def swept(settings: Sequence[Mapping[str, Any]], order: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Setting -> its value in every trial, of the settings that differ between them; those in `order` first."""
    names = dict.fromkeys([*order, *(name for one in settings for name in one)])
    columns = {name: [one.get(name, ABSENT) for one in settings] for name in names}
    return {name: column for name, column in columns.items() if len({value_text(value) for value in column}) > 1}


def value_text(value: Any) -> str:
    """A setting's value as a person would type it."""
    if value is ABSENT:
        return "not set"
    if isinstance(value, float):
        mantissa, e, exponent = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(exponent)}" if e else mantissa
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)


def _from_a_range(numbers: Sequence[float]) -> bool:
    """Whether numbers should stand by size: there are many, or they are fractions of which none comes twice."""
    different = set(numbers)
    drawn = 1 < len(different) == len(numbers) and any(value != int(value) for value in numbers)
    return drawn or len(different) > _MOST_PLACES


def _order(value: Any) -> tuple[bool, str]:
    """Categories by name, those who have none last."""
    return value is ABSENT, value_text(value)


def _slot(kind: str, index: int, count: int) -> float:
    return (index + 0.5) / count if kind == "category" else -_STEP_ASIDE * (index + 1)


def _labels(kind: str, names: Sequence[str]) -> tuple[tuple[float, str], ...]:
    """The places of categories with their names, so many that they can be told apart."""
    every = math.ceil(len(names) / _MOST_LABELS) if names else 1
    slots = [(_slot(kind, index, len(names)), plain(name, _LONGEST)) for index, name in enumerate(names)]
    return tuple(slots[::every])


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten; with fewer than three of them also 2 and 5 times these."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(f"{step}e{power}") for power in powers for step in (1, 2, 5)]
    inside = [mark for mark in found if low <= mark <= high]
    tens = [mark for mark in inside if f"{mark:e}".startswith("1.")]
    return tens if len(tens) > 2 else inside


def _steps(low: float, high: float) -> list[float]:
    """Round numbers at even distances."""
    from matplotlib.ticker import MaxNLocator

    return [float(mark) for mark in MaxNLocator(5).tick_values(low, high) if low <= mark <= high]
