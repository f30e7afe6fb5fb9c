"""Charts of what the swept settings did: all of them at once, one by one, and how much each of them mattered.

Why: from a sweep people want to learn where to look next, also when no single trial is clearly best. Contract: pure
functions; only settings that differ between trials are drawn; a trial that does not have a setting has a place of its
own; numbers drawn over decades stand on a logarithmic axis. Untouched states have no settings and are levels, no dots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from orchestrator.charts.scales import ABSENT, Scale, scale_of, swept
from orchestrator.charts.style import (
    CHAMPION,
    GRID,
    INK,
    QUIET,
    SHADES,
    STATES,
    canvas,
    headline,
    level,
    metric_axis,
    plain,
    shown,
    title_of,
    window,
)
from orchestrator.charts.trials import Estimate, Trial, color_of, judged, name_of, tag_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_AXES = 10
_MOST_PANELS = 9
_COLUMNS = 3
_SPREAD = 0.035


def parallel_chart(
    ranking: Sequence[Trial], metric: str, champion: str | None = None, order: Sequence[str] = ()
) -> Figure:
    """One line per trial through its settings to its value, which also gives its colour; the last axis is the key.

    Args:
        ranking: best first.
        metric: what trials are judged by.
        champion: the id of the best one, drawn last and thick.
        order: settings to put first, e.g. the most important ones.
    """
    rows = [(trial, best) for trial, best in judged(ranking) if not trial.baseline]
    columns = swept([trial.settings for trial, _ in rows], order)
    scales = {name: scale_of(values) for name, values in list(columns.items())[:_MOST_AXES]}
    figure, (axes,) = canvas(11.0, 5.2)
    limits = window([best.value for _, best in rows], [rows[0][1].value] if rows else [])
    for rank, (trial, best) in reversed(list(enumerate(rows))):
        share = min(max((best.value - limits[0]) / (limits[1] - limits[0]), 0.0), 1.0)
        heights = [_height(scale, trial, name, rank, len(rows)) for name, scale in scales.items()]
        _strand(
            axes, [*heights, share], _shade(metric, share), trial, best=trial.trial == champion, many=len(rows) > 40
        )
    for place, (name, scale) in enumerate(scales.items()):
        _axis(axes, place, _stacked(name, 110 // (len(scales) + 1)), scale)
    _value_axis(axes, len(scales), metric, limits)
    axes.set_ylim(min([0.0, *(scale.bottom for scale in scales.values())]) - 0.05, 1.05)
    left_out = f": {len(scales)} of {len(columns)} shown" if len(scales) < len(columns) else ""
    headline(figure, f"Settings of every trial{left_out}")
    return figure


def settings_chart(
    ranking: Sequence[Trial], metric: str, champion: str | None = None, order: Sequence[str] = ()
) -> Figure:
    """The metric over each setting, one panel per setting, with the medians of those that stand side by side."""
    rows = [(trial, best) for trial, best in judged(ranking) if not trial.baseline]
    columns = dict(list(swept([trial.settings for trial, _ in rows], order).items())[:_MOST_PANELS])
    count = max(len(columns), 1)
    lines = math.ceil(count / _COLUMNS)
    figure, panels = canvas(11.0, 0.7 + 2.9 * lines, lines, min(count, _COLUMNS))
    for unused in panels[count:]:
        unused.set_visible(False)
    levels = [(trial, best.value) for trial, best in judged(ranking) if trial.baseline][:2]
    values = [best.value for _, best in rows]
    panels[0].set_ylim(*window(values, [value for _, value in levels] + values[:1]))
    for axes, (name, column) in zip(panels, columns.items(), strict=False):
        _dots(axes, rows, name, scale_of(column), champion)
        for trial, value in levels:
            level(axes, value, name_of(trial), color=INK)
    for axes in panels[:: min(count, _COLUMNS)]:
        axes.set_ylabel(title_of(metric))
        metric_axis(axes.yaxis, metric)
    headline(figure, "Value over each setting")
    return figure


def importance_chart(importance: Mapping[str, float]) -> Figure:
    """The share of each setting in what made trials differ, the biggest first."""
    shares = sorted(importance.items(), key=lambda item: -item[1])
    figure, (axes,) = canvas(11.0, 1.1 + 0.36 * max(len(shares), 1))
    headline(figure, "What mattered")
    axes.barh(range(len(shares)), [share for _, share in shares], height=0.62, color=STATES["finished"])
    axes.set_yticks(range(len(shares)), [plain(name, 44) for name, _ in shares], color=INK)
    for line, (_, share) in enumerate(shares):
        axes.text(share + 0.008, line, f"{share:.0%}", va="center", fontsize=9, color=INK)
    axes.set_xlim(0, max([share for _, share in shares], default=1.0) * 1.1 or 1.0)
    axes.set_ylim(max(len(shares), 1) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def _shade(metric: str, share: float) -> str:
    """The colour of a value at this share of the axis."""
    goodness = 1 - share if metric.endswith("loss") else share
    return SHADES[min(int(goodness * len(SHADES)), len(SHADES) - 1)]


def _height(scale: Scale, trial: Trial, name: str, rank: int, count: int) -> float:
    """Where a trial crosses an axis; those with the same category lie side by side, the best on top."""
    place = scale.place(trial.settings.get(name, ABSENT))
    if scale.kind != "category" or count < 2:
        return place
    return place + _SPREAD * (1 - 2 * rank / (count - 1)) * min(1.0, 6 / len(scale.names))


def _strand(axes: Axes, heights: Sequence[float], color: Any, trial: Trial, *, best: bool, many: bool) -> None:
    """A smooth line through all axes, level where it crosses one."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    points, codes = [(0.0, heights[0])], [Path.MOVETO]
    for place, (left, right) in enumerate(pairwise(heights)):
        points += [(place + 0.4, left), (place + 0.6, right), (place + 1.0, right)]
        codes += [Path.CURVE4] * 3
    width, strength = (3.2, 1.0) if best else (0.9, 0.55) if many else (1.5, 0.8)
    strand = PathPatch(
        Path(points, codes), fill=False, edgecolor=CHAMPION if best else color, linewidth=width, alpha=strength
    )
    strand.set_zorder(4 if best else 2)
    strand.set_gid(tag_of(trial))
    axes.add_patch(strand)


def _axis(axes: Axes, place: int, name: str, scale: Scale) -> None:
    """One setting: an upright line with its labels, on paper so that no strand crosses them out."""
    axes.plot([place, place], [min(scale.bottom, 0), 1], color=QUIET, linewidth=1.0, zorder=3)
    axes.text(place, 1.06, name, ha="center", va="bottom", fontsize=9, fontweight="bold", color=INK)
    for height, label in scale.ticks:
        axes.plot([place - 0.012, place + 0.012], [height, height], color=QUIET, linewidth=1.0, zorder=3)
        _label(axes, place - 0.025, height, label, "right")


def _stacked(name: str, most: int) -> str:
    """A dotted name on two lines, so that those of neighbours do not touch."""
    section, dot, last = name.rpartition(".")
    return "\n".join(plain(part, max(most, 9)) for part in (section + dot, last) if part)


def _label(axes: Axes, x: float, y: float, text: str, side: str) -> None:
    paper = {"boxstyle": "round,pad=0.12", "facecolor": "#ffffff", "edgecolor": "none", "alpha": 0.72}
    axes.text(x, y, text, ha=side, va="center", fontsize=8.5, color=INK, zorder=6, bbox=paper)


def _value_axis(axes: Axes, place: int, metric: str, limits: tuple[float, float]) -> None:
    """The last axis: the metric, coloured as the strands are."""
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    height = 1 / len(SHADES)
    for index in range(len(SHADES)):
        shade = _shade(metric, (index + 0.5) * height)
        axes.add_patch(Rectangle((place, index * height), 0.04, height, color=shade, linewidth=0, zorder=3))
    axes.text(place, 1.06, title_of(metric), ha="center", va="bottom", fontsize=9, fontweight="bold", color=INK)
    for mark in MaxNLocator(6).tick_values(*limits):
        if limits[0] <= mark <= limits[1]:
            at = (mark - limits[0]) / (limits[1] - limits[0])
            axes.text(place + 0.06, at, shown(metric, mark), va="center", fontsize=8.5, color=INK)
    axes.set_xlim(-0.3, place + 0.3)
    axes.set_axis_off()


def _dots(axes: Axes, rows: Sequence[tuple[Trial, Estimate]], name: str, scale: Scale, champion: str | None) -> None:
    """One panel: a dot per trial, a star for the champion, a bar at the median of every category."""
    at: dict[float, list[float]] = {}
    for rank, (trial, best) in enumerate(rows):
        place = scale.place(trial.settings.get(name, ABSENT))
        at.setdefault(place, []).append(best.value)
        star = trial.trial == champion
        x = place + (0.0 if scale.kind != "category" or star else 0.08 * _scatter(rank) / len(scale.names))
        (dot,) = axes.plot([x], [best.value], "*" if star else "o", color=color_of(trial, champion), markeredgewidth=0)
        dot.set(markersize=14 if star else 6, alpha=1.0 if star else 0.75, zorder=5 if star else 3, gid=tag_of(trial))
    half = 0.3 / max(len(scale.names), 1)
    for place, values in at.items() if scale.kind == "category" else ():
        axes.plot([place - half, place + half], [median(values)] * 2, color=QUIET, linewidth=1.6, zorder=2)
    axes.set_xticks([place for place, _ in scale.ticks], [label for _, label in scale.ticks], fontsize=8.5)
    axes.set_xlim((0.0 if scale.kind == "category" else scale.bottom - 0.06), 1.0 if scale.kind == "category" else 1.06)
    axes.set_xlabel(plain(name, 40), color=INK)
    axes.grid(color=GRID, axis="y")


def _scatter(rank: int) -> float:
    """A spread between -1 and 1 that looks random and is the same every time: multiples of the golden ratio."""
    return 2 * ((rank * 0.618034) % 1) - 1
