"""The chart of a video that was scored: where its sound fits best, along the video and over all of it.

Contract: a pure function of plain numbers. Both panels share the upright axis of offsets, so that the valley of the
mean distance stands beside the places that dug it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.charts.style import CHAMPION, INK, QUIET, SHADES, canvas, headline, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST_SIZE, _SIZES = 10.0, 60.0
_LONGEST_TITLE = 90


def timeline_figure(
    title: str,
    moments: Sequence[tuple[float, int, float]],
    curve: Sequence[float],
    *,
    best: float | None = None,
    in_sync: float = 1,
) -> Figure:
    """The best offset along a video, and beside it the mean distance of all of it at each offset.

    Args:
        title: above the chart.
        moments: (seconds, best offset in frames, how clear it is) along the video.
        curve: mean distance at offsets from -n to +n frames, 2 n + 1 of them; NaN where there is none.
        best: the video's offset in frames, where there is one.
        in_sync: frames to either side that count as in sync.
    """
    figure, (along, over) = canvas(9.0, 3.6, columns=2)
    grid = along.get_gridspec()
    if grid is not None:
        grid.set_width_ratios([3, 1])
    headline(figure, plain(title, _LONGEST_TITLE))
    for axes in (along, over):
        axes.axhspan(-in_sync - 0.5, in_sync + 0.5, color=CHAMPION, alpha=0.12, linewidth=0, zorder=0)
        if best is not None:
            axes.axhline(best, color=INK, linewidth=1.0, linestyle="--", zorder=1)
    _draw_moments(along, moments)
    reach = (len(curve) - 1) // 2
    over.plot(list(curve), range(-reach, reach + 1), color=SHADES[-3], linewidth=1.8, marker="o", markersize=3)
    along.set_xlabel("seconds")
    along.set_ylabel("the sound comes later by, frames")
    over.set_xlabel("mean distance")
    if reach:
        along.set_ylim(-reach - 1, reach + 1)
    return figure


def _draw_moments(axes: Axes, moments: Sequence[tuple[float, int, float]]) -> None:
    """A dot for each moment: the clearer it is, the larger and darker."""
    if not moments:
        axes.text(0.5, 0.5, "too short to tell", transform=axes.transAxes, ha="center", color=QUIET)
        return
    seconds, offsets, depths = zip(*moments, strict=True)
    top = max((depth for depth in depths if math.isfinite(depth)), default=0.0) or 1.0
    shares = [min(max(depth / top, 0.0), 1.0) for depth in depths]
    sizes = [_LEAST_SIZE + _SIZES * share for share in shares]
    colours = [SHADES[round(share * (len(SHADES) - 1))] for share in shares]
    axes.scatter(seconds, offsets, s=sizes, c=colours, linewidths=0, zorder=3, label="larger: clearer")
    axes.legend(frameon=False, fontsize=9, loc="upper right")
