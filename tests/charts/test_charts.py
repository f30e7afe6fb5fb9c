"""Charts show what they should, also of runs that have hardly begun."""

from __future__ import annotations

import io
import math
import sys

import pytest
from matplotlib.figure import Figure

from orchestrator.charts import accuracy_chart, loss_chart

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


@pytest.mark.parametrize("history", [[], HISTORY[:1], [{"step": 3}], [{"step": 3, "val/loss": math.inf}]])
def test_a_chart_of_little_is_still_a_chart(history: list[dict[str, float]]) -> None:
    for figure in (loss_chart(history), accuracy_chart(history)):
        assert drawn(figure).startswith(b"\x89PNG")


def test_charts_leave_no_global_state() -> None:
    loss_chart(HISTORY)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
