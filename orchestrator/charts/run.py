"""Charts of a run and of a sweep, as matplotlib figures.

Why: the chart that matters for a SyncNet has the chance line in it, which MLflow's own charts cannot show. Contract:
pure functions of rows; drawn with matplotlib's object interface, so there is no display, no global state and nothing
to close. matplotlib is imported when a chart is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
"""One row of a history: `step`, and the metrics known at that step."""

CHANCE_LOSS = math.log(2)
"""The loss of a net that knows nothing: binary cross-entropy of a coin."""
CHANCE_ACCURACY = 0.5
"""The accuracy of a net that knows nothing, on balanced pairs."""

_TRAIN, _VALIDATION, _SECOND, _BEST, _QUIET = "#8fb8de", "#1f5a94", "#d1752a", "#c62f3b", "#6b7280"
_DPI = 120
_MOST_PANELS = 6
_COLUMNS = 3
_MOST_DOTS = 60
_LOG_RATIO = 20
_MOST_PLACES = 4


def loss_chart(history: Sequence[Row], title: str = "Loss", *, trained_on: str = "cosine_bce") -> Figure:
    """`train/loss` and `val/loss` over steps, with ln 2, the loss of chance.

    Args:
        history: rows with these metrics.
        title: above the chart.
        trained_on: the loss in training; validation is always measured in the cosine's binary cross-entropy.
    """
    figure, axes = _canvas(title, "binary cross-entropy")
    own = "" if trained_on == "cosine_bce" else f" ({trained_on})"
    _line(axes, _series(history, "train/loss"), f"training{own}", _TRAIN, dots=False)
    _line(axes, _series(history, "val/loss"), "validation", _VALIDATION)
    _level(axes, CHANCE_LOSS, "chance (ln 2)")
    axes.set_ylim(bottom=0)
    return _finished(figure, axes)


def accuracy_chart(history: Sequence[Row], title: str = "Validation accuracy") -> Figure:
    """`val/accuracy` (and `val/auc`, if there) over steps, with chance, the start at step 0 and the best step."""
    figure, axes = _canvas(title, "accuracy, AUC")
    accuracy = _series(history, "val/accuracy")
    _line(axes, _series(history, "val/auc"), "AUC", _SECOND)
    _line(axes, accuracy, "accuracy", _VALIDATION)
    _level(axes, CHANCE_ACCURACY, "chance")
    if accuracy and accuracy[0][0] == 0 and len(accuracy) > 1:
        _level(axes, accuracy[0][1], f"before training ({accuracy[0][1]:.1%})", ":")
    if accuracy:
        step, best = max(accuracy, key=lambda point: (point[1], -point[0]))
        label = f"best: {best:.1%} at step {step:,}"
        axes.plot([step], [best], marker="*", markersize=13, color=_BEST, linestyle="none", label=label, zorder=5)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return _finished(figure, axes)


def sweep_chart(rows: Sequence[Row], metric: str = "val/accuracy", baseline: float | None = None) -> Figure:
    """Every trial of a sweep: one panel per swept setting, the metric over its values, the best trial marked.

    Args:
        rows: one per trial: `settings` (dotted setting -> value) and the metric; trials without it are left out.
        metric: what to compare; less is better if its name ends in `loss`.
        baseline: the metric before training, drawn as a line.
    """
    done = [row for row in rows if _number(row.get(metric)) is not None]
    settings = list(dict.fromkeys(name for row in done for name in row["settings"]))[:_MOST_PANELS]
    figure, panels = _panels(max(1, len(settings)))
    best = min(done, key=lambda row: row[metric] * (1 if metric.endswith("loss") else -1), default=None)
    for axes, setting in zip(panels, settings, strict=False):
        _scatter(axes, [row for row in done if setting in row["settings"]], setting, metric, best)
        if baseline is not None:
            _level(axes, baseline, f"before training ({baseline:.3g})")
    for axes in panels[::_COLUMNS]:
        axes.set_ylabel(metric)
    left_out = f", {len(rows) - len(done)} without a result" if len(done) < len(rows) else ""
    figure.suptitle(f"Sweep: {len(done)} trials{left_out}", fontsize=13, fontweight="bold", x=0.01, ha="left")
    if settings:
        figure.legend(
            *panels[0].get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=3
        )
    return figure


def _canvas(title: str, y_label: str) -> tuple[Figure, Axes]:
    """An empty chart over steps."""
    figure, panels = _panels(1)
    axes = panels[0]
    axes.set_title(title, fontsize=13, fontweight="bold", loc="left", pad=10)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return figure, axes


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in rows, which share their upright axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(count, _COLUMNS)
    lines = math.ceil(count / columns)
    size = (8.0, 4.5) if count == 1 else (1.0 + 4.0 * columns, 0.8 + 3.6 * lines)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for unused in panels[count:]:
        unused.set_visible(False)
    for axes in panels:
        axes.grid(color="#e5e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels[:count]


def _series(history: Sequence[Row], metric: str) -> list[tuple[int, float]]:
    """The (step, value) points of a metric, in order of steps, without those that are missing or not numbers."""
    points = ((int(row["step"]), _number(row.get(metric))) for row in history)
    return sorted((step, value) for step, value in points if value is not None)


def _number(value: Any) -> float | None:
    """A finite number, or none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _line(axes: Axes, points: Sequence[tuple[int, float]], label: str, color: str, *, dots: bool = True) -> None:
    """One metric over steps, with a dot per value where there are few enough to tell them apart."""
    if points:
        steps, values = zip(*points, strict=True)
        marker = "o" if dots and len(points) <= _MOST_DOTS else None
        axes.plot(steps, values, color=color, linewidth=1.8, marker=marker, markersize=4, label=label)


def _level(axes: Axes, value: float, label: str, style: str = "--") -> None:
    """A level line across the whole chart."""
    axes.axhline(value, color=_QUIET, linewidth=1.2, linestyle=style, label=label, zorder=1)


def _finished(figure: Figure, axes: Axes) -> Figure:
    """The chart with its legend."""
    axes.margins(x=0.02)
    axes.legend(frameon=False, fontsize=9, loc="best")
    return figure


def _scatter(axes: Axes, rows: Sequence[Row], setting: str, metric: str, best: Row | None) -> None:
    """The metric over the values of one setting, one dot per trial."""
    values = [row["settings"][setting] for row in rows]
    places = _places(axes, values)
    axes.plot(places, [row[metric] for row in rows], "o", color=_VALIDATION, alpha=0.75, markersize=6, label="trial")
    for place, row in zip(places, rows, strict=True):
        if row is best:
            label = f"best ({row[metric]:.3g})"
            axes.plot([place], [row[metric]], "*", color=_BEST, markersize=14, label=label, zorder=5)
    axes.set_xlabel(setting)


def _places(axes: Axes, values: Sequence[Any]) -> list[float]:
    """Where the values of a setting stand on the x axis: many numbers by size, anything else side by side."""
    numbers = [_number(value) for value in values if not isinstance(value, bool)]
    found = [number for number in numbers if number is not None]
    numeric = len(found) == len(values)
    # fractions of which none comes twice were drawn from a range
    drawn = len(set(found)) == len(values) and any(isinstance(value, float) for value in values)
    if numeric and (drawn or len(set(found)) > _MOST_PLACES):
        if min(found) > 0 and max(found) / min(found) >= _LOG_RATIO:
            axes.set_xscale("log")
        return found
    names = list(dict.fromkeys(_name(value) for value in sorted(values, key=None if numeric else str)))
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    return [float(names.index(_name(value))) for value in values]


def _name(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
