"""Charts of how well pairs are told apart: the curves of a classifier, groups of clips, and several checkpoints.

Why: one figure hides what a person has to know: where to put a threshold, whether a cosine of 0.9 means nine in ten,
who is told worst. Contract: pure functions of plain data; what a network gives that knows nothing is drawn wherever
there is such a thing; what is empty draws an empty chart and no warning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.charts.style import CHAMPION, INK, QUIET, STATES, canvas, headline, minus, plain, window
from orchestrator.charts.trials import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IN_SYNC, OUT_OF_SYNC = STATES["finished"], STATES["stopped early"]
"""Colours of the two kinds of pairs; told apart by people who see no red or green, too."""
SQUARE = 5.2, 4.0
"""Inches of charts that stand side by side."""
WIDE = 11.0
_MOST_ROWS = 40
_MOST_POINTS = 600


def roc_chart(roc: tuple[Sequence[float], Sequence[float]], area: Estimate | None = None) -> Figure:
    """The share of pairs in sync that are found over that of the others taken for such, for every threshold.

    Args:
        roc: false and true positive rates, ascending.
        area: the area below it, with its interval.
    """
    figure, axes = _unit_square("ROC curve" + _area(area))
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1.2, linestyle=":", label="chance")
    roc = _thinned(roc)
    axes.fill_between(*roc, color=IN_SYNC, alpha=0.12, linewidth=0)
    axes.plot(*roc, color=IN_SYNC, linewidth=2.0, label="_")
    axes.set_xlabel("out of sync, but taken for in sync")
    axes.set_ylabel("in sync, and found")
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def precision_recall_chart(
    curve: tuple[Sequence[float], Sequence[float]], area: Estimate | None = None, share: float = 0.5
) -> Figure:
    """Of the pairs called in sync the share that is, over the share of those in sync that are found.

    Args:
        curve: recall and precision.
        area: the average precision, with its interval.
        share: of all pairs that are in sync, which is what chance has.
    """
    figure, axes = _unit_square("Precision and recall" + _area(area))
    axes.axhline(share, color=QUIET, linewidth=1.2, linestyle=":", label=f"chance ({share:.0%})")
    axes.step(*_thinned(curve), color=IN_SYNC, linewidth=2.0, where="post", label="_")
    axes.set_xlabel("in sync, and found")
    axes.set_ylabel("right when it says in sync")
    axes.legend(loc="lower left", frameon=False, fontsize=9)
    return figure


def calibration_chart(bins: Sequence[tuple[float, float, int]], error: Estimate | None = None) -> Figure:
    """The share of pairs that is in sync over the cosine, with the number of pairs below; on the diagonal they agree.

    Args:
        bins: mean cosine, share in sync, pairs.
        error: the calibration error, with its interval.
    """
    told = f" {error.value:.3f}" if error and math.isfinite(error.value) else ""
    figure, axes = _unit_square(f"Calibration: error{told}" if told else "Calibration")
    most = max((count for _, _, count in bins), default=1)
    for cosine, _, count in bins:
        axes.bar(cosine, 0.16 * count / most, width=0.06, color=QUIET, alpha=0.35, linewidth=0)
        axes.text(cosine, 0.16 * count / most + 0.012, f"{count:,}", ha="center", fontsize=7.5, color=QUIET)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1.2, linestyle=":", label="a cosine is the share in sync")
    axes.axhline(0.5, color=QUIET, linewidth=0.8, linestyle="--", label="chance (50%)")
    known = [(cosine, share) for cosine, share, _ in bins]
    if known:
        axes.plot(*zip(*known, strict=True), "o-", color=IN_SYNC, linewidth=1.8, markersize=5, label="_")
    axes.set_xlabel("cosine (bars: pairs)")
    axes.set_ylabel("share in sync")
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    return figure


def cosine_histogram(in_sync: Sequence[int], out_of_sync: Sequence[int], threshold: float | None = None) -> Figure:
    """The cosines of both kinds of pairs; where they cover each other, nothing is told apart.

    Args:
        in_sync: pairs in equal bins from -1 to 1.
        out_of_sync: the same.
        threshold: at which they are told apart best.
    """
    figure, (axes,) = canvas(*SQUARE)
    headline(figure, "Cosines of the pairs")
    edges = np.linspace(-1, 1, max(len(in_sync), 1) + 1)
    for counts, color, label in ((in_sync, IN_SYNC, "in sync"), (out_of_sync, OUT_OF_SYNC, "out of sync")):
        heights = list(counts) or [0]
        axes.stairs(heights, edges, fill=True, color=color, alpha=0.28, linewidth=0)
        axes.stairs(heights, edges, color=color, linewidth=1.6, label=label)
    if threshold is not None and math.isfinite(threshold):
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--", label=f"best threshold ({threshold:.2f})")
    used = np.flatnonzero([a + b for a, b in zip(in_sync, out_of_sync, strict=True)])
    axes.set_xlim(float(edges[used[0]]) - 0.05 if len(used) else -1, 1.0)
    axes.set_ylim(0, 1.05 * max([*in_sync, *out_of_sync, 1]))
    axes.set_xlabel("cosine of picture and sound")
    axes.set_ylabel("pairs")
    axes.xaxis.set_major_formatter(lambda value, _: minus(f"{value:g}"))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def groups_chart(
    groups: Mapping[str, Estimate],
    title: str,
    chance: float | None = None,
    whole: Estimate | None = None,
    *,
    percent: bool = False,
    width: float = WIDE,
) -> Figure:
    """A figure with its interval for every group of clips, the highest first.

    Args:
        groups: name -> its figure.
        title: what is told, and of what.
        chance: what a network has that knows nothing.
        whole: the same figure of all clips, drawn as a band.
        percent: whether it is a share.
        width: inches.
    """
    known = sorted(
        ((name, one) for name, one in groups.items() if math.isfinite(one.value)), key=lambda row: -row[1].value
    )
    rows = known if len(known) <= _MOST_ROWS else known[: _MOST_ROWS // 2] + known[-_MOST_ROWS // 2 :]
    left_out = f": the {len(rows)} best and worst of {len(known)}" if len(rows) < len(known) else ""
    return _whiskers(rows, title + left_out, chance, whole, None, percent, width)


def forest_chart(
    checkpoints: Sequence[tuple[str, Estimate]],
    title: str,
    chance: float | None = None,
    best: str | None = None,
    *,
    percent: bool = False,
    width: float = WIDE,
) -> Figure:
    """A figure of several checkpoints with its intervals, in the order given.

    Args:
        checkpoints: names and figures.
        title: what is told.
        chance: what a network has that knows nothing, or 0 for differences.
        best: the name of the one to mark.
        percent: whether it is a share.
        width: inches.
    """
    known = [row for row in checkpoints if math.isfinite(row[1].value)]
    return _whiskers(known, title, chance, None, best, percent, width)


def _whiskers(
    rows: Sequence[tuple[str, Estimate]],
    title: str,
    chance: float | None,
    whole: Estimate | None,
    best: str | None,
    percent: bool,
    width: float,
) -> Figure:
    """One row each: a dot with its interval, the name on the left and the value on the right."""
    figure, (axes,) = canvas(width, 1.4 + 0.27 * max(len(rows), 2))
    headline(figure, plain(title))
    limits = _limits(rows, chance)
    if chance is not None:
        label = f"chance ({_number(chance, percent)})"
        axes.axvline(chance, color=QUIET, linewidth=1.2, linestyle=":", zorder=1, label=label)
    if whole is not None and math.isfinite(whole.value):
        axes.axvline(whole.value, color=INK, linewidth=1.1, linestyle="--", zorder=1, label="all clips")
        _band(axes, whole, limits)
    for line, (name, one) in enumerate(rows):
        _row(axes, line, one, limits, best=name == best)
        text, across = _number(one.value, percent), axes.get_yaxis_transform()
        axes.text(1.01, line, text, transform=across, va="center", fontsize=9, color=INK)
    axes.set_xlim(*limits)
    axes.set_ylim(max(len(rows), 2) - 0.4, -0.6)
    longest = 44 if width == WIDE else 24
    axes.set_yticks(range(len(rows)), [plain(name, longest) for name, _ in rows], fontsize=9, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if percent else minus(f"{value:.3g}"))
    if chance is not None or whole is not None:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _limits(rows: Sequence[tuple[str, Estimate]], chance: float | None) -> tuple[float, float]:
    """What is shown: all values and chance, and as much of the intervals as does not shrink them to nothing."""
    ends = [end for _, one in rows for end in (one.low, one.value, one.high)]
    return window(ends, [one.value for _, one in rows] + ([] if chance is None else [chance]))


def _band(axes: Axes, whole: Estimate, limits: tuple[float, float]) -> None:
    if not math.isnan(whole.low + whole.high):
        ends = max(whole.low, limits[0]), min(whole.high, limits[1])
        axes.axvspan(*ends, color=QUIET, alpha=0.10, linewidth=0, zorder=0)


def _row(axes: Axes, line: int, one: Estimate, limits: tuple[float, float], *, best: bool) -> None:
    color = CHAMPION if best else IN_SYNC
    if not math.isnan(one.low + one.high):
        ends = max(one.low, limits[0]), min(one.high, limits[1])
        axes.hlines(line, *ends, color=color, linewidth=1.6, alpha=0.75, zorder=2)
    axes.plot([one.value], [line], "*" if best else "o", color=color, markersize=13 if best else 6, zorder=4)


def _number(value: float, percent: bool) -> str:
    return f"{value:.1%}" if percent else minus(f"{value:.3f}")


def _area(area: Estimate | None) -> str:
    if area is None or not math.isfinite(area.value):
        return ""
    return f": {area.value:.3f}  [{area.low:.3f}, {area.high:.3f}]"


def _thinned(curve: tuple[Sequence[float], Sequence[float]]) -> tuple[Sequence[float], Sequence[float]]:
    """As many points as can be told apart, the ends among them: a long list has a hundred times more."""
    count = len(curve[0])
    if count <= _MOST_POINTS:
        return curve
    kept = np.linspace(0, count - 1, _MOST_POINTS).round().astype(int)
    return tuple(np.asarray(part)[kept] for part in curve)  # type: ignore[return-value]


def _unit_square(title: str) -> tuple[Figure, Axes]:
    """An empty chart whose axes are shares."""
    figure, (axes,) = canvas(*SQUARE)
    headline(figure, title)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.03)
    return figure, axes
