"""Charts as matplotlib figures: pure functions of rows and trials, without a display or global state."""

from orchestrator.charts.audit import offsets_chart
from orchestrator.charts.run import accuracy_chart, loss_chart
from orchestrator.charts.settings import importance_chart, parallel_chart, settings_chart
from orchestrator.charts.sweep import cost_chart, curves_chart, ranking_chart

__all__ = [
    "accuracy_chart",
    "cost_chart",
    "curves_chart",
    "importance_chart",
    "loss_chart",
    "offsets_chart",
    "parallel_chart",
    "ranking_chart",
    "settings_chart",
]
