"""Charts of a sweep show every trial where it belongs, with chance, intervals and the untouched file."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from orchestrator.charts import (
    cost_chart,
    curves_chart,
    importance_chart,
    parallel_chart,
    ranking_chart,
    settings_chart,
)
from orchestrator.charts.scales import ABSENT, scale_of, swept, value_text
from orchestrator.charts.style import CHAMPION, STATES, counted, plain, shown, shown_gain, window


@dataclass(frozen=True)
class Best:
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Value:
    samples: int
    value: float


@dataclass(frozen=True)
class Made:
    """A made-up trial: what the charts ask for and no more."""

    trial: str
    best: Best | None = None
    state: str = "finished"
    baseline: bool = False
    init: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    curve: Sequence[Value] = ()


def made(trial: str, value: float, **rest: Any) -> Made:
    curve = (Value(0, value - 0.1), Value(100, value), Value(200, value - 0.01))
    return Made(trial, Best(value, value - 0.02, value + 0.01), curve=curve, **rest)


def ranking(count: int = 3) -> list[Made]:
    """`001` first, an untouched file last, and one trial without a value."""
    settings = [{"optim.lr": 1e-5 * 3**index, "loss.name": "ab"[index % 2]} for index in range(count)]
    trials = [made(f"{i:03d}", 0.9 - 0.2 * i / count, settings=s) for i, s in enumerate(settings, start=1)]
    return [*trials, made("000", 0.6, baseline=True, init="/models/a.pt"), Made("999", state="failed")]


CHARTS: list[Callable[..., Figure]] = [ranking_chart, curves_chart, parallel_chart, settings_chart]


def tagged(figure: Figure, trial: str) -> list[Any]:
    return figure.findobj(lambda artist: artist.get_gid() == f"trial:{trial}")


def texts(figure: Figure) -> list[str]:
    return [found.get_text() for found in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def drawn(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_a_rank_has_its_value_its_interval_and_its_colour() -> None:
    figure = ranking_chart(ranking(), "val/auc", "001")
    (whisker, dot) = sorted(tagged(figure, "001"), key=lambda artist: artist.get_zorder())
    (start, _), (end, _) = whisker.get_segments()[0]
    assert (start, end) == pytest.approx((0.9 - 0.2 / 3 - 0.02, 0.9 - 0.2 / 3 + 0.01))
    assert dot.get_xdata() == pytest.approx([0.9 - 0.2 / 3])
    assert (dot.get_color(), dot.get_marker()) == (CHAMPION, "*")
    assert tagged(figure, "002")[0].get_zorder() and STATES["finished"] in {
        to_hex(artist.get_color()) for artist in tagged(figure, "002") if hasattr(artist, "get_marker")
    }
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [name.split()[-1] for name in names] == ["001", "002", "003", "a.pt"]
    assert figure.axes[0].yaxis.get_inverted()


def test_the_untouched_file_is_a_line_in_ranking_and_curves() -> None:
    upright = [line for line in ranking_chart(ranking(), "val/auc").axes[0].get_lines() if line.get_linestyle() == "--"]
    assert list(upright[0].get_xdata()) == [0.6, 0.6]
    across = {str(line.get_label()): line for line in curves_chart(ranking(), "val/auc").axes[0].get_lines()}
    assert list(across["untouched a.pt (0.6000)"].get_ydata()) == [0.6, 0.6]


@pytest.mark.parametrize(("metric", "label"), [("val/auc", "chance (0.5)"), ("val/accuracy", "chance (50%)")])
def test_chance_is_a_line_where_it_is_near(metric: str, label: str) -> None:
    for chart in (ranking_chart, curves_chart):
        assert label in {str(line.get_label()) for line in chart(ranking(), metric).axes[0].get_lines()}


def test_chance_is_a_note_where_the_axis_would_not_reach() -> None:
    close = [made("001", 0.99), made("002", 0.989)]
    figure = ranking_chart([Made(t.trial, Best(t.best.value, 0.988, 0.991)) for t in close if t.best], "val/auc")
    assert "chance (0.5) is far off ←" in texts(figure)
    low, _ = figure.axes[0].get_xlim()
    assert low > 0.9
    assert f"chance ({math.log(2):.3g}) is far off ↑" in texts(curves_chart([made("001", 0.02)], "val/loss"))


def test_two_hundred_trials_are_cut_and_the_untouched_file_stays() -> None:
    figure = ranking_chart(ranking(200), "val/auc", "001")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 31 and names[-1].endswith("a.pt")
    assert "Ranking by AUC: 31 of 201 shown" in texts(figure)


def test_the_end_of_a_stopped_curve_is_a_cross_and_the_champion_has_a_star() -> None:
    rows = [made("001", 0.8), made("002", 0.7, state="stopped early")]
    axes = curves_chart(rows, "val/auc", "001").axes[0]
    marks = {line.get_marker(): tuple(float(x) for x in line.get_xydata()[0]) for line in axes.get_lines()}
    assert marks["x"] == (200, pytest.approx(0.69))
    assert marks["*"] == (100, 0.8)


def test_less_is_better_in_a_loss() -> None:
    lines = curves_chart([made("001", 0.5)], "val/loss", "001").axes[0].get_lines()
    assert [tuple(line.get_xydata()[0]) for line in lines if line.get_marker() == "*"] == [(0, 0.4)]


def test_every_judged_trial_is_a_strand_and_a_dot_per_panel() -> None:
    rows = ranking()
    strands = parallel_chart(rows, "val/auc", "001")
    assert [len(tagged(strands, trial)) for trial in ("001", "002", "000", "999")] == [1, 1, 0, 0]
    assert tagged(strands, "001")[0].get_linewidth() > tagged(strands, "002")[0].get_linewidth()
    panels = settings_chart(rows, "val/auc", "001", order=["loss.name"])
    assert [axes.get_xlabel() for axes in panels.axes] == ["loss.name", "optim.lr"]
    assert [len(tagged(panels, trial)) for trial in ("001", "000")] == [2, 0]


def test_importance_is_sorted_and_told() -> None:
    figure = importance_chart({"a": 0.25, "b": 0.75})
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "a"]
    assert {"75%", "25%"} <= set(texts(figure))


def test_cost_adds_up() -> None:
    figure = cost_chart([("finished", 300), ("failed", 100)], [("finished", 3), ("failed", 1)], saved=(200, 2))
    assert [patch.get_x() + patch.get_width() for patch in figure.axes[0].patches] == [300, 400, 600]


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize(
    "rows",
    [
        [],
        [Made("001", state="running")],
        [made("001", 0.7)],
        [made("001", 0.7), made("002", 0.7)],
        [Made("001", Best(0.7, -math.inf, math.inf)), Made("002", Best(math.nan, math.nan, math.nan))],
        [made("$x$", 0.7, settings={"$a^": "$\\frac"}), made("\x00\n<b>", 0.6, settings={"$a^": {"k": [1, None]}})],
    ],
)
def test_a_chart_of_little_or_of_odd_things_is_still_a_chart(chart: Callable[..., Figure], rows: list[Made]) -> None:
    assert drawn(chart(rows, "val/auc", "001")).startswith(b"\x89PNG")


def test_charts_leave_no_global_state() -> None:
    ranking_chart(ranking(), "val/auc")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_numbers_over_decades_stand_by_their_logarithm() -> None:
    scale = scale_of([1e-5, 3e-4, 1e-3, 1e-2])
    assert (scale.kind, scale.place(1e-5), scale.place(1e-2)) == ("log", 0.0, 1.0)
    assert scale.place(10**-3.5) == pytest.approx(0.5)
    assert [label for _, label in scale.ticks] == ["1e-5", "0.0001", "0.001", "0.01"]


def test_few_numbers_that_come_again_stand_side_by_side_in_order() -> None:
    scale = scale_of([512, 64, 256, 64])
    assert (scale.kind, scale.names) == ("category", ("64", "256", "512"))
    assert scale.place(256) == pytest.approx(0.5)


def test_anything_has_a_place() -> None:
    values = ["x" * 99, None, True, False, {"b": 1}, [1, 2], 3, ABSENT]
    scale = scale_of(values)
    assert len({scale.place(value) for value in values}) == len(values)
    assert scale.names[-1] == "not set"
    assert max(len(label) for _, label in scale.ticks) <= 20
    mixed = scale_of([0.1, 0.25, 0.7, None, ABSENT])
    assert mixed.kind == "linear"
    assert mixed.place(ABSENT) < mixed.place(None) < 0 == mixed.place(0.1)


def test_only_settings_that_differ_count() -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3}]
    assert swept(rows, order=["c"]) == {"c": [None, ABSENT], "b": [2, 3]}


def test_figures_are_written_as_people_read_them() -> None:
    assert [shown("val/accuracy", 0.91234), shown("val/auc", 0.91234)] == ["91.23%", "0.9123"]
    assert [shown_gain("val/accuracy", 0.0123), shown_gain("val/loss", -0.5)] == ["+1.23 pp", "−0.5000"]
    assert [shown("val/loss", x) for x in (math.nan, math.inf, -math.inf)] == ["–", "∞", "−∞"]
    assert [counted(x) for x in (0, 12, 1536, 2.5e6, 3e9)] == ["0", "12", "1.54k", "2.5M", "3G"]
    assert [value_text(x) for x in (1e-05, 0.1, 3, None, True)] == ["1e-5", "0.1", "3", "null", "true"]
    assert plain("a" * 50 + "end", 12).endswith("…aaend")


def test_what_is_far_out_does_not_shrink_the_rest() -> None:
    low, high = window([0.9 + 0.001 * i for i in range(20)] + [-50.0])
    assert 0.85 < low < 0.9 and high < 1
    assert window([0.9, 0.91], keep=[0.1])[0] < 0.1
