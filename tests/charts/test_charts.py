"""Charts show what they should, also of runs that have hardly begun."""

from __future__ import annotations

import io
import math
import sys

import pytest
from matplotlib.figure import Figure

from orchestrator.charts import accuracy_chart, loss_chart, sweep_chart

HISTORY = [
    {"step": 0, "val/loss": 0.7, "val/accuracy": 0.5, "val/auc": 0.5},
    {"step": 20, "train/loss": 0.5},
    {"step": 10, "train/loss": 0.6, "val/loss": 0.6, "val/accuracy": 0.75, "val/auc": math.nan},
    {"step": 30, "val/loss": 0.5, "val/accuracy": 0.7},
]


def lines(figure: Figure, panel: int = 0) -> dict[str, list[tuple[float, float]]]:
    """The points of every line of a panel under its legend entry."""
    found = figure.axes[panel].get_lines()
    return {str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()] for line in found}


def drawn(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_loss_has_both_curves_in_order_and_the_line_of_chance() -> None:
    curves = lines(loss_chart(HISTORY))
    assert curves["training"] == [(10, 0.6), (20, 0.5)]
    assert curves["validation"] == [(0, 0.7), (10, 0.6), (30, 0.5)]
    assert curves["chance (ln 2)"][0][1] == pytest.approx(math.log(2))
    assert "training (info_nce)" in lines(loss_chart(HISTORY, trained_on="info_nce"))


def test_accuracy_has_the_start_and_the_best() -> None:
    curves = lines(accuracy_chart(HISTORY))
    assert curves["best: 75.0% at step 10"] == [(10, 0.75)]
    assert curves["before training (50.0%)"][0][1] == 0.5
    assert curves["AUC"] == [(0, 0.5)]


def test_a_sweep_has_a_panel_per_setting_and_marks_the_best() -> None:
    settings = [{"optim.lr": 10.0**-e, "optim.schedule": s} for e, s in enumerate(["cosine", "constant"] * 3, start=1)]
    rows = [{"settings": s, "val/loss": 0.1 * i} for i, s in enumerate(settings, start=1)] + [{"settings": {}}]
    figure = sweep_chart(rows, metric="val/loss", baseline=0.69)
    assert [axes.get_xlabel() for axes in figure.axes] == ["optim.lr", "optim.schedule"]
    assert figure.axes[0].get_xscale() == "log"
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["constant", "cosine"]
    assert lines(figure)["best (0.1)"] == [(0.1, 0.1)]
    assert "1 without a result" in str(figure.get_suptitle())


def test_few_different_numbers_stand_side_by_side_in_order() -> None:
    rows = [{"settings": {"train.global_batch": batch}, "val/accuracy": 0.5} for batch in (512, 64, 256)]
    axes = sweep_chart(rows).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "256", "512"]


def test_drawn_fractions_stand_by_size_however_few() -> None:
    rows = [{"settings": {"optim.lr": rate}, "val/accuracy": 0.5} for rate in (1.23e-3, 4.56e-5, 7.89e-4)]
    axes = sweep_chart(rows).axes[0]
    assert axes.get_xscale() == "log"
    assert list(axes.lines[0].get_xdata()) == [1.23e-3, 4.56e-5, 7.89e-4]


@pytest.mark.parametrize("history", [[], HISTORY[:1], [{"step": 3}], [{"step": 3, "val/loss": math.inf}]])
def test_a_chart_of_little_is_still_a_chart(history: list[dict[str, float]]) -> None:
    for figure in (loss_chart(history), accuracy_chart(history), sweep_chart([])):
        assert drawn(figure).startswith(b"\x89PNG")


def test_charts_leave_no_global_state() -> None:
    loss_chart(HISTORY)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
