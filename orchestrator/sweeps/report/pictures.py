"""The charts of a sweep under the names of their files.

Contract: the page and MLflow show the same figures; a chart that would be empty is not made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.charts import (
    cost_chart,
    curves_chart,
    importance_chart,
    parallel_chart,
    ranking_chart,
    settings_chart,
)
from orchestrator.charts.scales import swept
from orchestrator.sweeps.report.cost import cost_of
from orchestrator.sweeps.summary import SweepSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(summary: SweepSummary) -> dict[str, Figure]:
    """File name -> figure, in the order in which a page shows them; only those that have something to show."""
    ranking, metric, champion = summary.ranking, summary.metric, summary.champion
    judged = [trial for trial in ranking if trial.best and not trial.baseline]
    order = sorted(summary.importance, key=lambda name: -summary.importance[name])
    found: dict[str, Figure] = {}
    if any(trial.best for trial in ranking):
        found["ranking.png"] = ranking_chart(ranking, metric, champion)
    if any(trial.curve and not trial.baseline for trial in ranking):
        found["curves.png"] = curves_chart(ranking, metric, champion)
    if swept([trial.settings for trial in judged]):
        found["parallel.png"] = parallel_chart(ranking, metric, champion, order)
        found["settings.png"] = settings_chart(ranking, metric, champion, order)
    if summary.importance:
        found["importance.png"] = importance_chart(summary.importance)
    cost = cost_of(summary.trials)
    if cost.parts:
        hours = [(part.state, part.seconds / 3600) for part in cost.parts]
        samples = [(part.state, part.samples) for part in cost.parts]
        found["cost.png"] = cost_chart(samples, hours, (cost.spared_samples, cost.spared_seconds / 3600))
    return found
