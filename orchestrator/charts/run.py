"""Charts of one run, as matplotlib figures.

Why: the chart that matters for a SyncNet has the chance line in it, which MLflow's own charts cannot show. Contract:
pure functions of rows; drawn with matplotlib's object interface, so there is no display, no global state and nothing
to close. matplotlib is imported when a chart is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.charts.style import CHANCE, CHANCE_LOSS, canvas, headline, level, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
"""One row of a history: `step`, and the metrics known at that step."""

_TRAIN, _VALIDATION, _SECOND, _BEST = "#8fb8de", "#1f5a94", "#d1752a", "#c62f3b"
_MOST_DOTS = 60


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
    level(axes, CHANCE_LOSS, "chance (ln 2)")
    axes.set_ylim(bottom=0)
    return _finished(figure, axes)


def accuracy_chart(history: Sequence[Row], title: str = "Validation accuracy") -> Figure:
    """`val/accuracy` (and `val/auc`, if there) over steps, with chance, the start at step 0 and the best step."""
    figure, axes = _canvas(title, "accuracy, AUC")
    accuracy = _series(history, "val/accuracy")
    _line(axes, _series(history, "val/auc"), "AUC", _SECOND)
    _line(axes, accuracy, "accuracy", _VALIDATION)
    level(axes, CHANCE, "chance")
    if accuracy and accuracy[0][0] == 0 and len(accuracy) > 1:
        level(axes, accuracy[0][1], f"before training ({accuracy[0][1]:.1%})", ":")
    if accuracy:
        step, best = max(accuracy, key=lambda point: (point[1], -point[0]))
        label = f"best: {best:.1%} at step {step:,}"
        axes.plot([step], [best], marker="*", markersize=13, color=_BEST, linestyle="none", label=label, zorder=5)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return _finished(figure, axes)


def _canvas(title: str, y_label: str) -> tuple[Figure, Axes]:
    """An empty chart over steps."""
    figure, panels = canvas(8.0, 4.5)
    axes = panels[0]
    headline(figure, title)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return figure, axes


def _series(history: Sequence[Row], metric: str) -> list[tuple[int, float]]:
    """The (step, value) points of a metric, in order of steps, without those that are missing or not numbers."""
    points = ((int(row["step"]), number(row.get(metric))) for row in history)
    return sorted((step, value) for step, value in points if value is not None)


def _line(axes: Axes, points: Sequence[tuple[int, float]], label: str, color: str, *, dots: bool = True) -> None:
    """One metric over steps, with a dot per value where there are few enough to tell them apart."""
    if points:
        steps, values = zip(*points, strict=True)
        marker = "o" if dots and len(points) <= _MOST_DOTS else None
        axes.plot(steps, values, color=color, linewidth=1.8, marker=marker, markersize=4, label=label)


def _finished(figure: Figure, axes: Axes) -> Figure:
    """The chart with its legend."""
    axes.margins(x=0.02)
    axes.legend(frameon=False, fontsize=9, loc="best")
    return figure
