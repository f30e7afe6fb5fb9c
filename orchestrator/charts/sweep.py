"""Charts of a sweep's trials: who is best and how surely, how they learned, and where the work went.

Why: a ranking without intervals, without the untouched file and without chance looks like more than it is. Contract:
pure functions; `ranking` is best first and may hold trials without a value; `champion` is the id of the best one. Every
mark of a trial carries its tag (`tag_of`). Text that comes from people is shown as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.charts.style import (
    CHAMPION,
    INK,
    QUIET,
    STATES,
    canvas,
    chance_of,
    counted,
    headline,
    level,
    metric_axis,
    shown,
    title_of,
    window,
)
from orchestrator.charts.trials import Estimate, Trial, color_of, judged, mark_of, name_of, tag_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_ROWS = 30
_MOST_LINES = 3
_WIDTH = 11.0
_ENDS = {"stopped early": "x", "failed": "X"}
"""Marks of curves that ended before their time."""


def ranking_chart(ranking: Sequence[Trial], metric: str, champion: str | None = None) -> Figure:
    """Every trial's best value with its 95% interval, best first; the untouched states as upright lines with bands."""
    known = judged(ranking)
    rows = _top(known)
    figure, (axes,) = canvas(_WIDTH, 1.4 + 0.27 * max(len(rows), 2))
    headline(figure, f"Ranking by {title_of(metric)}" + _left_out(len(rows), len(known)))
    ends = [end for _, _, best in rows for end in (best.low, best.high)]
    low, high = _with_chance(axes, metric, window(ends, [rows[0][2].value] if rows else []), upright=True)
    for line, (_, trial, best) in enumerate(rows):
        _whisker(axes, line, trial, best, champion, (low, high))
    for best in [best for _, trial, best in rows if trial.baseline][:_MOST_LINES]:
        axes.axvline(best.value, color=INK, linewidth=1.1, linestyle="--", zorder=1, label="_")
        axes.axvspan(max(best.low, low), min(best.high, high), color=QUIET, alpha=0.10, linewidth=0, zorder=0)
    axes.set_xlim(low, high)
    axes.set_ylim(max(len(rows), 2) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    _name_rows(axes, rows, metric, champion)
    metric_axis(axes.xaxis, metric)
    _legend(figure, [trial for _, trial, _ in rows], champion, axes)
    return figure


def curves_chart(ranking: Sequence[Trial], metric: str, champion: str | None = None) -> Figure:
    """The metric of every trial over the samples that it trained on; where early stopping ended one is a cross."""
    trials = [trial for trial in ranking if trial.curve and not trial.baseline]
    figure, (axes,) = canvas(_WIDTH, 5.0)
    headline(figure, f"Learning curves: {title_of(metric)}")
    baselines = [(trial, best) for trial, best in judged(ranking) if trial.baseline][:_MOST_LINES]
    keep = [best.value for trial, best in judged(ranking) if trial.baseline or trial.trial == champion]
    values = [point.value for trial in trials for point in trial.curve]
    axes.set_ylim(*_with_chance(axes, metric, window(values + keep, keep), upright=False))
    for trial in reversed(trials):
        _curve(axes, trial, champion, lower=metric.endswith("loss"), faint=len(trials) > 16)
    for trial, best in baselines:
        level(axes, best.value, f"{name_of(trial)} ({shown(metric, best.value)})", color=INK)
    axes.set_xlabel("samples trained on")
    axes.set_xlim(left=0)
    axes.margins(x=0.02)
    axes.xaxis.set_major_formatter(lambda value, _: counted(value))
    metric_axis(axes.yaxis, metric)
    _legend(figure, trials, champion, axes, crosses=True)
    return figure


def cost_chart(
    samples: Sequence[tuple[str, float]], hours: Sequence[tuple[str, float]], saved: tuple[float, float] = (0.0, 0.0)
) -> Figure:
    """Where the samples and the hours of training went, by the state of the trials.

    Args:
        samples: state and how many, in the order in which they are drawn.
        hours: the same of hours.
        saved: how many samples and hours early stopping saved, as an estimate.
    """
    figure, panels = canvas(_WIDTH, 2.1, columns=2)
    for axes, parts, spared, unit in zip(panels, (samples, hours), saved, ("samples", "hours"), strict=True):
        _stack(axes, parts, spared, unit)
    panels[0].set_yticks([])
    headline(figure, "Where the work went")
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return figure


def _top(known: Sequence[tuple[Trial, Estimate]]) -> list[tuple[int, Trial, Estimate]]:
    """Those to draw, with their ranks: the best ones, and every untouched state wherever it stands."""
    numbered = [(rank, trial, best) for rank, (trial, best) in enumerate(known, start=1)]
    return [row for row in numbered if row[0] <= _MOST_ROWS or row[1].baseline]


def _left_out(shown_rows: int, all_rows: int) -> str:
    return f": {shown_rows} of {all_rows} shown" if shown_rows < all_rows else ""


def _with_chance(axes: Axes, metric: str, limits: tuple[float, float], *, upright: bool) -> tuple[float, float]:
    """Mark chance: a line, or a note at the edge where the axis would have to grow too much to reach it."""
    (low, high), chance = limits, chance_of(metric)
    label = f"chance ({chance:{'.0%' if metric.endswith('accuracy') else '.3g'}})"
    if low - 1.5 * (high - low) <= chance <= high + 1.5 * (high - low):
        draw = axes.axvline if upright else axes.axhline
        draw(chance, color=QUIET, linewidth=1.2, linestyle=":", zorder=1, label=label)
        margin = 0.04 * (high - low)
        return min(low, chance - margin), max(high, chance + margin)
    above = chance > high
    arrow = ("→" if above else "←") if upright else ("↑" if above else "↓")
    axes.set_title(f"{label} is far off {arrow}", loc="right", fontsize=9, color=QUIET)
    return low, high


def _whisker(
    axes: Axes, line: int, trial: Trial, best: Estimate, champion: str | None, limits: tuple[float, float]
) -> None:
    """One row of the ranking; what reaches out of the chart ends at its edge with an arrow."""
    color, (low, high) = color_of(trial, champion), limits
    ends = max(best.low, low), min(best.high, high)
    axes.hlines(line, *ends, color=color, linewidth=1.6, alpha=0.75, zorder=2).set_gid(tag_of(trial))
    inside = low <= best.value <= high
    mark = mark_of(trial, champion) if inside else "<" if best.value < low else ">"
    size = 13 if mark == "*" else 6
    place = min(max(best.value, low), high)
    drawn = axes.plot([place], [line], mark, color=color, markersize=size, zorder=4, clip_on=False, label="_")
    drawn[0].set_gid(tag_of(trial))


def _name_rows(axes: Axes, rows: Sequence[tuple[int, Trial, Estimate]], metric: str, champion: str | None) -> None:
    """Rank and name on the left, the value on the right."""
    axes.set_yticks(range(len(rows)), [f"{rank}.   {name_of(trial)}" for rank, trial, _ in rows], fontsize=9)
    axes.tick_params(axis="y", length=0)
    for label, (_, trial, _) in zip(axes.get_yticklabels(), rows, strict=True):
        marked = trial.baseline or trial.trial == champion
        label.set(color=color_of(trial, champion) if marked else INK, fontweight="bold" if marked else "normal")
    across = axes.get_yaxis_transform()
    for line, (_, _, best) in enumerate(rows):
        axes.text(1.01, line, shown(metric, best.value), transform=across, va="center", fontsize=9, color=INK)


def _curve(axes: Axes, trial: Trial, champion: str | None, *, lower: bool, faint: bool) -> None:
    """One trial's validations, and how it ended."""
    best = trial.trial == champion
    color, points = color_of(trial, champion), [(point.samples, point.value) for point in trial.curve]
    strength = 1.0 if best else 0.45 if faint else 0.75
    marker = "o" if len(points) == 1 else None
    style: dict[str, Any] = {"linewidth": 2.8 if best else 1.3, "alpha": strength, "zorder": 5 if best else 2}
    (line,) = axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=4, label="_", **style)
    line.set_gid(tag_of(trial))
    end = _ENDS.get(trial.state)
    if end:
        (mark,) = axes.plot(*points[-1], end, color=color, markersize=6, alpha=max(strength, 0.7), label="_", zorder=3)
        mark.set_gid(tag_of(trial))
    if best:
        # of equal values the first, as everywhere
        peak = min(points, key=lambda point: (point[1] if lower else -point[1], point[0]))
        axes.plot(*peak, "*", color=color, markersize=15, zorder=6, label="_")


def _legend(
    figure: Figure, trials: Sequence[Trial], champion: str | None, axes: Axes, *, crosses: bool = False
) -> None:
    """What the colours and marks mean, of those that occur."""
    from matplotlib.lines import Line2D

    def entry(label: str, color: str, marker: str) -> Line2D:
        return Line2D([], [], color=color, marker=marker, linestyle="none", label=label, markersize=7)

    found = {trial.state for trial in trials if not trial.baseline and trial.trial != champion}
    entries: list[object] = [entry("champion", CHAMPION, "*")] if any(t.trial == champion for t in trials) else []
    entries += [entry("untouched start", INK, "D")] if any(trial.baseline for trial in trials) else []
    for state, color in STATES.items():
        if state in found:
            entries.append(entry(state, color, _ENDS.get(state, "o") if crosses else "o"))
    handles = [*entries, *(line for line in axes.get_lines() if not str(line.get_label()).startswith("_"))]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False, fontsize=9
        )


def _stack(axes: Axes, parts: Sequence[tuple[str, float]], spared: float, unit: str) -> None:
    """One bar of parts side by side, with what was spared as an empty frame behind them."""
    start = 0.0
    for state, amount in parts:
        axes.barh(0, amount, left=start, height=0.5, color=STATES.get(state, QUIET), linewidth=0, label=state)
        start += amount
    if spared > 0:
        frame = axes.barh(0, spared, left=start, height=0.5, label="spared by early stopping (estimate)", alpha=0.6)
        frame.patches[0].set(facecolor="none", edgecolor=QUIET, linestyle="--", hatch="///")
    axes.set_ylim(-0.5, 0.5)
    axes.set_xlim(0, max(start + spared, 1e-9) * 1.02)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"{unit} of training")
    axes.xaxis.set_major_formatter(lambda value, _: counted(value))
