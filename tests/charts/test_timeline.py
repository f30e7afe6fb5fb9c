"""The chart of a scored video: what it shows, and that it draws whatever there is."""

from __future__ import annotations

import math

from orchestrator.charts.timeline import timeline_figure

CURVE = [math.nan, 1.0, 0.9, 0.4, 0.8, 1.0, 1.1]


def test_both_panels_stand_on_one_axis_of_offsets() -> None:
    figure = timeline_figure("a $video$", [(1.0, 0, 0.1), (1.5, -2, 0.5)], CURVE, best=0.2)
    along, over = figure.axes
    assert along.get_ylim() == over.get_ylim() == (-4, 4)
    assert along.collections[0].get_offsets().tolist() == [[1.0, 0.0], [1.5, -2.0]]
    small, large = along.collections[0].get_sizes()
    assert small < large
    (line,) = (line for line in over.get_lines() if len(line.get_xdata()) == len(CURVE))
    assert list(line.get_ydata()) == [-3, -2, -1, 0, 1, 2, 3]
    figure.canvas.draw()


def test_a_video_without_moments_is_drawn_too() -> None:
    figure = timeline_figure("short", [], CURVE)
    assert "too short" in figure.axes[0].texts[0].get_text()
    figure.canvas.draw()
