"""Charts as matplotlib figures: pure functions of plain data, without a display or global state."""

from orchestrator.charts.evaluation import (
    calibration_chart,
    cosine_histogram,
    forest_chart,
    groups_chart,
    precision_recall_chart,
    roc_chart,
)
from orchestrator.charts.offsets import offset_accuracy_chart, offset_curve_chart, offset_histogram, timeline_chart
from orchestrator.charts.run import accuracy_chart, loss_chart
from orchestrator.charts.settings import importance_chart, parallel_chart, settings_chart
from orchestrator.charts.sweep import cost_chart, curves_chart, ranking_chart

__all__ = [
    "accuracy_chart",
    "calibration_chart",
    "cosine_histogram",
    "cost_chart",
    "curves_chart",
    "forest_chart",
    "groups_chart",
    "importance_chart",
    "loss_chart",
    "offset_accuracy_chart",
    "offset_curve_chart",
    "offset_histogram",
    "parallel_chart",
    "precision_recall_chart",
    "ranking_chart",
    "roc_chart",
    "settings_chart",
    "timeline_chart",
]
