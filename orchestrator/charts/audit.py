"""The chart of an audit: by how much clips were found to be shifted. A pure function of numbers, as all charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.charts.style import canvas, headline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KEPT, _MOVED = "#8fb8de", "#d1752a"


def offsets_chart(
    in_sync: Sequence[float], shifted: Sequence[float], reach: int, title: str = "Where the sound belongs"
) -> Figure:
    """How many clips were found at each offset from where the manifest has them.

    Args:
        in_sync: frames, of clips that stay where they are.
        shifted: frames, of clips that are elsewhere.
        reach: frames to either side that were tried.
        title: above the chart.
    """
    figure, (axes,) = canvas(8.0, 4.0)
    headline(figure, title)
    edges = [frame - 0.5 for frame in range(-reach - 1, reach + 3)]
    axes.hist(
        [list(in_sync), list(shifted)], bins=edges, stacked=True, color=[_KEPT, _MOVED], label=["in sync", "shifted"]
    )
    axes.set_xlabel("frames of 1/25 s by which the sound comes later than the manifest says")
    axes.set_ylabel("clips")
    axes.legend(frameon=False, fontsize=9, loc="best")
    return figure
