"""The chart of a comparison of checkpoints: each value with its interval, and what the best has over each.

Contract: a `Standing` of `evaluation.compare` fits `Row`; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from orchestrator.charts.style import (
    CHAMPION,
    GRID,
    INK,
    QUIET,
    STATES,
    canvas,
    chance_of,
    headline,
    metric_axis,
    plain,
    shown,
    shown_gain,
    title_of,
    window,
)
from orchestrator.charts.trials import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 10.0
_LONGEST_NAME = 34
_TIED = STATES["finished"]


class Row(Protocol):
    """One checkpoint."""

    @property
    def name(self) -> str: ...
    @property
    def figures(self) -> Mapping[str, Estimate]: ...
    @property
    def behind_best(self) -> Estimate: ...
    @property
    def tied(self) -> bool: ...


def comparison_chart(rows: Sequence[Row], metric: str, use: str | None = None) -> Figure:
    """Values on the left, best first; on the right what the best has over each, where 0 is a tie.

    Args:
        rows: the checkpoints, best first.
        metric: the figure that counts.
        use: the name of the one to use, which is drawn green.
    """
    figure, (values, gains) = canvas(_WIDTH, 1.5 + 0.34 * max(len(rows), 2), 1, 2)
    headline(figure, f"{len(rows)} checkpoints on the same pairs")
    chance = chance_of(metric)
    known = [row.figures[metric] for row in rows]
    values.set_xlim(*window([end for each in known for end in (each.low, each.high)], [chance]))
    values.axvline(chance, color=QUIET, linewidth=1.2, linestyle="--", zorder=1)
    gains.axvline(0, color=INK, linewidth=1.2, zorder=1)
    for line, row in enumerate(rows):
        color = _color(row, use)
        _whisker(values, line, row.figures[metric], color)
        _whisker(gains, line, row.behind_best, color)
        gain = shown_gain(metric, row.behind_best.value) if line else "best"
        for axes, text in ((values, shown(metric, row.figures[metric].value)), (gains, gain)):
            axes.text(1.01, line, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=INK)
    values.set_yticks(range(len(rows)), [plain(row.name, _LONGEST_NAME) for row in rows], fontsize=9)
    values.set_ylim(len(rows) - 0.4, -0.6)
    for axes, title in ((values, f"{title_of(metric)} (dashed: chance)"), (gains, "what the best has over it")):
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    metric_axis(values.xaxis, metric)
    for label, row in zip(values.get_yticklabels(), rows, strict=True):
        label.set(color=_color(row, use), fontweight="bold" if row.name == use else "normal")
    return figure


def _color(row: Row, use: str | None) -> str:
    """Green for the one to use, blue for what cannot be told apart from the best, grey for what is worse."""
    return CHAMPION if row.name == use else _TIED if row.tied else QUIET


def _whisker(axes: Axes, line: int, found: Estimate, color: str) -> None:
    axes.axhline(line, color=GRID, linewidth=0.6, zorder=0)
    axes.hlines(line, found.low, found.high, color=color, linewidth=1.8, alpha=0.8, zorder=2)
    axes.plot([found.value], [line], "o", color=color, markersize=6, zorder=4)
