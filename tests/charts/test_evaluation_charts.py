"""Charts of evaluations draw everything that they are given, with chance, and nothing at all without a warning."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from orchestrator.charts import (
    calibration_chart,
    cosine_histogram,
    forest_chart,
    groups_chart,
    offset_accuracy_chart,
    offset_curve_chart,
    offset_histogram,
    precision_recall_chart,
    roc_chart,
    timeline_chart,
)
from orchestrator.charts.drawing import drawing

NAN = math.nan


class One(NamedTuple):
    value: float
    low: float
    high: float


GOOD, BAD = One(0.9, 0.85, 0.93), One(NAN, NAN, NAN)
CASES: dict[str, Callable[[], Figure]] = {
    "roc": lambda: roc_chart(([0, 0.1, 1], [0, 0.8, 1]), GOOD),
    "empty roc": lambda: roc_chart(([], []), BAD),
    "precision": lambda: precision_recall_chart(([1, 0.5, 0], [0.5, 0.8, 1]), GOOD),
    "empty precision": lambda: precision_recall_chart(([], [])),
    "calibration": lambda: calibration_chart([(0.1, 0.0, 5), (0.9, 1.0, 70_000)], GOOD),
    "empty calibration": lambda: calibration_chart([], BAD),
    "cosines": lambda: cosine_histogram([0, 0, 3, 9], [0, 5, 2, 0], 0.4),
    "no cosines": lambda: cosine_histogram([0] * 40, [0] * 40, NAN),
    "empty cosines": lambda: cosine_histogram([], []),
    "offsets": lambda: offset_histogram([0.1, -3.2, 99.0, NAN], [0.0, 0.1], names=("before", "after")),
    "one clip": lambda: offset_histogram([2.0]),
    "no clip": lambda: offset_histogram([]),
    "accuracy": lambda: offset_accuracy_chart({0: [(5, GOOD), (6, BAD)], 1: [(5, GOOD)], 7: [(5, GOOD)]}, {0: 0.03}),
    "no accuracy": lambda: offset_accuracy_chart({}),
    "unknown accuracy": lambda: offset_accuracy_chart({0: [(5, BAD)]}),
    "curve": lambda: offset_curve_chart([NAN, 1.2, 0.5, 1.1, NAN], 0.1),
    "nan curve": lambda: offset_curve_chart([NAN] * 31, NAN),
    "no curve": lambda: offset_curve_chart([]),
    "timeline": lambda: timeline_chart([(0.5, 0, 0.3), (0.9, -7, NAN)], 0.2),
    "flat timeline": lambda: timeline_chart([(0.5, 0, 0.0)], NAN),
    "no timeline": lambda: timeline_chart([]),
    "groups": lambda: groups_chart(
        {"$a$": GOOD, "b": One(0.6, 0.4, 0.7), "c": BAD}, "accuracy", 0.5, GOOD, percent=True
    ),
    "many groups": lambda: groups_chart({f"speaker {n}": One(n / 99, 0, 1) for n in range(99)}, "accuracy", 0.5, BAD),
    "one group": lambda: groups_chart({"a": One(0.9, NAN, NAN)}, "accuracy", width=5),
    "no group": lambda: groups_chart({}, "accuracy", 0.5),
    "forest": lambda: forest_chart([("a", GOOD), ("b", One(-1.0, -math.inf, math.inf))], "difference", 0.0, "a"),
    "empty forest": lambda: forest_chart([], "difference"),
}


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [found.get_text() for found in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize("name", CASES)
def test_it_draws_without_a_warning_and_suits_a_page(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = drawing(CASES[name](), name)
        CASES[name]().savefig(io.BytesIO(), format="png")
    assert svg.startswith("<svg viewBox=") and "://" not in svg
    assert "#111827" not in svg and "#ffffff" not in svg.replace("fill: #ffffff", ""), "colours are the page's"
    assert svg == drawing(CASES[name](), name)


@pytest.mark.parametrize("name", ["roc", "precision", "calibration", "accuracy", "groups", "forest"])
def test_chance_is_drawn(name: str) -> None:
    assert any("chance" in text for text in texts(CASES[name]()))


def test_offsets_beyond_the_reach_are_at_its_edge() -> None:
    (axes,) = offset_histogram([99.0, 99.0, -99.0, 0.4], reach=5).axes
    heights = list(axes.patches[1].get_data().values)
    assert heights == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2]


def test_groups_are_sorted_and_the_middle_is_left_out() -> None:
    (axes,) = CASES["many groups"]().axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 40 and labels[0] == "speaker 98" and labels[-1] == "speaker 0"
    assert "the 40 best and worst of 99" in " ".join(texts(CASES["many groups"]()))
    assert "90.0%" in texts(CASES["groups"]()) and "−1.000" in texts(CASES["forest"]())


def test_a_doubtful_moment_is_fainter() -> None:
    above, _ = timeline_chart([(0.5, 0, 0.3), (0.9, -7, 0.0)], 0.2).axes
    (dots,) = [found for found in above.collections if isinstance(found, PathCollection)]
    assert list(dots.get_alpha()) == [1.0, 0.25]
    assert dots.get_offsets().tolist() == [[0.5, 0], [0.9, -7]]
    assert above.get_ylim() == (-8, 8)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    steps = [n / 9999 for n in range(10_000)]
    for figure in (roc_chart((steps, steps)), precision_recall_chart((steps, steps))):
        line = figure.axes[0].get_lines()[-1]
        assert len(line.get_xdata()) == 600 and (line.get_xdata()[0], line.get_xdata()[-1]) == (0, 1)
        assert len(drawing(figure, "x")) < 60_000
