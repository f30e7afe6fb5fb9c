"""Charts of offsets: where sound and picture of clips fit best, how surely that is found, and how it goes along a clip.

Contract: pure functions of plain data; positive is sound that comes later than its picture, in frames of 1/25 s; what
is NaN or empty is left out without a warning, and chance is drawn where there is such a thing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.charts.evaluation import IN_SYNC, OUT_OF_SYNC, SQUARE
from orchestrator.charts.style import CHAMPION, INK, QUIET, STATES, canvas, headline, minus
from orchestrator.charts.trials import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

REACH = 15
"""Frames to either side that are shown."""
_SMALL = 5.2, 2.2
_WITHIN = {0: IN_SYNC, 1: OUT_OF_SYNC, 2: STATES["running"]}
_OFFSET_LABEL = "frames by which the sound comes later"


def offset_histogram(
    offsets: Sequence[float], later: Sequence[float] | None = None, reach: int = REACH, names: Sequence[str] = ()
) -> Figure:
    """How many clips fit best at each offset, with the band within one frame of none.

    Args:
        offsets: of each clip, in frames; what is beyond the reach is put at its edge.
        later: a second lot, e.g. after a correction, drawn over the first.
        reach: frames to either side.
        names: what the lots are called; needed for two.
    """
    figure, (axes,) = canvas(*SQUARE)
    headline(figure, "Offsets of the clips")
    edges = np.arange(-reach, reach + 2) - 0.5
    axes.axvspan(-1.5, 1.5, color=CHAMPION, alpha=0.10, linewidth=0, zorder=0, label="within 1 frame")
    most = 1
    lots = [(offsets, OUT_OF_SYNC if later is not None else IN_SYNC)] + (
        [(later, IN_SYNC)] if later is not None else []
    )
    for place, (lot, color) in enumerate(lots):
        whole = np.clip(np.round([one for one in lot if math.isfinite(one)]), -reach, reach)
        counts = np.histogram(whole, edges)[0]
        most = max(most, int(counts.max(initial=0)))
        axes.stairs(counts, edges, fill=True, color=color, alpha=0.35, linewidth=0)
        axes.stairs(counts, edges, color=color, linewidth=1.4, label=names[place] if place < len(names) else "_")
    axes.set_ylim(0, 1.08 * most)
    _offset_axis(axes, reach)
    axes.set_ylabel("clips")
    _whole(axes.yaxis)
    axes.legend(loc="upper right", frameon=False, fontsize=9)
    return figure


def offset_accuracy_chart(
    lines: Mapping[int, Sequence[tuple[int, Estimate]]], chance: Mapping[int, float] | None = None
) -> Figure:
    """The share of places at which the offset is found, over the number of windows that are averaged.

    Args:
        lines: frames by which it may be off -> windows averaged and the share, with its interval.
        chance: frames by which it may be off -> what guessing has.
    """
    figure, (axes,) = canvas(*SQUARE)
    headline(figure, "Offset found, by windows averaged")
    for within, points in sorted(lines.items()):
        color = _WITHIN.get(within, INK)
        known = [(windows, one) for windows, one in points if math.isfinite(one.value)]
        if known:
            across = [windows for windows, _ in known]
            low, high = [one.low for _, one in known], [one.high for _, one in known]
            axes.fill_between(across, low, high, color=color, alpha=0.13, linewidth=0)
            label = "exactly" if within == 0 else f"within {within} frame{'s' if within > 1 else ''}"
            axes.plot(across, [one.value for _, one in known], "o-", color=color, markersize=4, label=label)
        if chance and within in chance:
            axes.axhline(chance[within], color=color, linewidth=1.1, linestyle=":")
    if chance:
        axes.plot([], [], color=QUIET, linewidth=1.1, linestyle=":", label="chance")
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("windows averaged")
    _whole(axes.xaxis)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def offset_curve_chart(
    curve: Sequence[float], found: float | None = None, title: str = "Distance over offsets", expected: float = 0.0
) -> Figure:
    """The mean distance of picture and sound of one clip at every offset; a deep, narrow valley is a sure one.

    Args:
        curve: from minus to plus as many frames, NaN where it is not known.
        found: the clip's offset.
        title: what it says above.
        expected: where it should be.
    """
    figure, (axes,) = canvas(*_SMALL)
    headline(figure, title)
    reach = (len(curve) - 1) // 2
    values = np.array(curve, float) if len(curve) else np.full(1, np.nan)
    axes.axvspan(expected - 1, expected + 1, color=CHAMPION, alpha=0.10, linewidth=0, zorder=0)
    axes.plot(np.arange(len(values)) - reach, values, "o-", color=IN_SYNC, linewidth=1.6, markersize=3)
    known = values[np.isfinite(values)]
    if len(known):
        middle = float(np.median(known))
        axes.axhline(middle, color=QUIET, linewidth=1.0, linestyle=":")
        axes.text(1.0, middle, "median", transform=axes.get_yaxis_transform(), fontsize=8, color=QUIET, va="center")
    if found is not None and math.isfinite(found):
        axes.axvline(found, color=OUT_OF_SYNC, linewidth=1.3, linestyle="--")
    _offset_axis(axes, max(reach, 1))
    axes.set_ylabel("distance")
    return figure


def timeline_chart(moments: Sequence[tuple[float, int, float]], offset: float | None = None) -> Figure:
    """The best offset along a clip, and how clearly it is the best.

    Args:
        moments: seconds, best offset in frames, and how much less its distance is than the median one.
        offset: of the whole clip.
    """
    figure, (above, below) = canvas(_SMALL[0], 2.8, lines=2, alike=False)
    headline(figure, "Best offset along the clip")
    seconds, offsets, depths = (np.array([one[part] for one in moments], float) for part in range(3))
    depths = np.nan_to_num(depths, nan=0.0)
    if offset is not None and math.isfinite(offset):
        above.axhspan(offset - 1, offset + 1, color=CHAMPION, alpha=0.12, linewidth=0, zorder=0)
    strength = 0.25 + 0.75 * depths / max(float(depths.max(initial=0.0)), 1e-9)
    above.scatter(seconds, offsets, s=14, color=IN_SYNC, alpha=strength.clip(0, 1) if len(seconds) else None, zorder=3)
    below.fill_between(seconds, depths, color=IN_SYNC, alpha=0.4, linewidth=0)
    return _timeline_axes(figure, above, below, [*offsets, offset or 0.0])


def _timeline_axes(figure: Figure, above: Axes, below: Axes, offsets: Sequence[float]) -> Figure:
    reach = max([2.0, *(abs(one) for one in offsets if math.isfinite(one))]) + 1
    above.set_ylim(-reach, reach)
    above.set_ylabel("frames")
    _whole(above.yaxis, 5)
    above.yaxis.set_major_formatter(lambda value, _: minus(f"{value:+.0f}" if value else "0"))
    below.set_ylabel("clearness")
    below.set_ylim(bottom=0)
    below.set_xlabel("seconds")
    return figure


def _whole(axis: Axis, most: int = 9) -> None:
    """Marks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], integer=True))


def _offset_axis(axes: Axes, reach: int) -> None:
    axes.set_xlim(-reach - 0.6, reach + 0.6)
    axes.axvline(0, color=QUIET, linewidth=0.8, zorder=1)
    axes.set_xlabel(_OFFSET_LABEL)
    _whole(axes.xaxis)
    axes.xaxis.set_major_formatter(lambda value, _: minus(f"{value:+.0f}" if value else "0"))
