"""What the charts of a sweep need to know of a trial: protocols, which the data of a sweep fits without an import."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orchestrator.charts.style import CHAMPION, INK, STATES, plain

_LONGEST_NAME = 28


class Estimate(Protocol):
    """A figure with its 95% interval."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class Validation(Protocol):
    """One value of the metric, after so many samples."""

    @property
    def samples(self) -> int: ...
    @property
    def value(self) -> float: ...


class Trial(Protocol):
    """One trial, or an untouched starting state (`baseline`), which is judged and not trained."""

    @property
    def trial(self) -> str: ...
    @property
    def baseline(self) -> bool: ...
    @property
    def init(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def state(self) -> str: ...
    @property
    def best(self) -> Estimate | None: ...
    @property
    def curve(self) -> Sequence[Validation]: ...


def name_of(trial: Trial) -> str:
    """What a chart calls a trial: its id; a baseline by the file that it is."""
    file = trial.init.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return plain(f"untouched {file}".strip() if trial.baseline else trial.trial, _LONGEST_NAME)


def color_of(trial: Trial, champion: str | None) -> str:
    """Green for the champion, ink for what was not trained, else the colour of the state."""
    if trial.trial == champion:
        return CHAMPION
    return INK if trial.baseline else STATES.get(trial.state, INK)


def mark_of(trial: Trial, champion: str | None) -> str:
    """The same as a marker of matplotlib: a star, a diamond or a dot."""
    return "*" if trial.trial == champion else "D" if trial.baseline else "o"


def tag_of(trial: Trial) -> str:
    """The id that a trial's marks carry in a drawing, by which a page finds them again."""
    return f"trial:{trial.trial}"


def judged(ranking: Sequence[Trial]) -> list[tuple[Trial, Estimate]]:
    """The trials that have a value, with it, in the same order."""
    return [(trial, trial.best) for trial in ranking if trial.best and math.isfinite(trial.best.value)]
