"""Charts as matplotlib figures: pure functions of rows, without a display or global state."""

from orchestrator.charts.run import accuracy_chart, loss_chart, sweep_chart

__all__ = ["accuracy_chart", "loss_chart", "sweep_chart"]
