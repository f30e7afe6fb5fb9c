"""What the page shows of a sweep, worked out: key figures, rows of the ranking, little bars, the champion's settings.

Contract: pure functions of the summary; every figure on the page is one of the summary's or comes from here. Nothing is
escaped here: that is the template's business, everywhere.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.charts.scales import ABSENT, value_text
from orchestrator.charts.style import STATES, counted, title_of, window
from orchestrator.sweeps.report.cost import cost_of
from orchestrator.sweeps.summary import Interval, SweepSummary, TrialSummary

UNSETTLED = ("running", "waiting")


@dataclass(frozen=True)
class Fact:
    """One key figure."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Bar:
    """A gain with its interval as places on a line of 0 to 100, and where no gain is."""

    zero: float
    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Line:
    """One row of the ranking."""

    rank: int | None
    """None for a trial without a value."""
    trial: TrialSummary
    champion: bool
    cells: tuple[Any, ...]
    """Its swept settings in the order of the columns, `ABSENT` where it has none of that name."""
    bar: Bar | None


def facts(summary: SweepSummary) -> list[Fact]:
    """The key figures, the most asked for first."""
    trained = [trial for trial in summary.trials if not trial.baseline]
    states = Counter(trial.state for trial in trained)
    ended = ", ".join(f"{states[state]} {state}" for state in dict.fromkeys([*STATES, *states]) if states[state])
    cost = cost_of(summary.trials)
    spared = f"early stopping spared about {cost.spared_share:.0%}" if cost.spared_samples else "all trials together"
    return [
        Fact("Trials", str(len(trained)), ended),
        Fact("Samples trained on", counted(cost.samples), spared),
        Fact("Wall time", duration(3600 * summary.hours), f"{duration(cost.seconds)} of training, added up"),
        Fact("Judged on", f"{summary.pairs:,} pairs", f"the same for all, from {_clips(summary.clips)}"),
        Fact("Judged by", title_of(summary.metric), f"search {summary.search}, scheduler {summary.scheduler}"),
    ]


def columns(summary: SweepSummary) -> list[str]:
    """The swept settings, the most important ones first."""
    names = dict.fromkeys(name for trial in summary.trials for name in trial.settings)
    return sorted(names, key=lambda name: -summary.importance.get(name, 0.0))


def ranking_lines(summary: SweepSummary) -> list[Line]:
    """The ranking with everything that a row shows."""
    names, ranking = columns(summary), summary.ranking
    limits = _gain_limits([trial.gain for trial in ranking if trial.gain])
    return [
        Line(
            rank if trial.best else None,
            trial,
            trial.trial == summary.champion,
            () if trial.baseline else tuple(trial.settings.get(name, ABSENT) for name in names),
            _bar(trial.gain, limits) if trial.gain else None,
        )
        for rank, trial in enumerate(ranking, start=1)
    ]


def champion_of(summary: SweepSummary) -> TrialSummary | None:
    """The best one, if there is any value yet."""
    return next((trial for trial in summary.trials if trial.trial == summary.champion), None)


def hero_bar(gain: Interval) -> Bar:
    """The champion's gain on a line of its own, with no gain on it."""
    return _bar(gain, _gain_limits([gain]))


def overrides(trial: TrialSummary) -> str:
    """A trial's settings as they are typed after a configuration."""
    return " ".join(shlex.quote(f"{name}={_typed(value)}") for name, value in trial.settings.items())


def duration(seconds: float) -> str:
    """A time that a person can compare: two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def file_name(address: str) -> str:
    """The last part of a path or address."""
    return address.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _clips(count: int) -> str:
    return f"{count:,} clip" if count == 1 else f"{count:,} clips"


def _gain_limits(gains: Sequence[Interval]) -> tuple[float, float]:
    """One range for all bars, so that they compare; a gain far below the others ends at its edge."""
    ends = [end for gain in gains for end in (gain.low, gain.high)]
    return window([*ends, 0.0], [0.0, *(gain.value for gain in gains[:1] if math.isfinite(gain.value))])


def _bar(gain: Interval, limits: tuple[float, float]) -> Bar:
    low, high = limits

    def place(value: float) -> float:
        return 0.0 if math.isnan(value) else round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)

    return Bar(place(0.0), place(gain.low), place(gain.value), place(gain.high))


def _typed(value: Any) -> str:
    """All digits of a number, unlike in a table."""
    return repr(value) if isinstance(value, float) else value_text(value)
