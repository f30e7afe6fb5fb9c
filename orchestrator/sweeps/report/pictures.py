"""The charts of a sweep under the names of their files, and how a chart becomes a part of a page.

Contract: the page and MLflow show the same figures; a chart that would be empty is not made. A drawing for a page
names no address, holds no id that could meet another one, takes its colours from the page (so that it suits a dark
screen) and marks what belongs to a trial with `data-trial`.
"""

from __future__ import annotations

import io
import re
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
from orchestrator.charts.style import CHAMPION, GRID, INK, PAPER, QUIET, SHADES, STATES
from orchestrator.sweeps.report.cost import cost_of
from orchestrator.sweeps.summary import SweepSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = {INK: "ink", QUIET: "quiet", GRID: "grid", PAPER: "paper", CHAMPION: "champion"}
_NAMES |= {color: state.replace(" ", "-") for state, color in STATES.items()}
_NAMES |= {color: f"shade-{index}" for index, color in enumerate(SHADES)}
_EMPTY_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


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


def drawing(figure: Figure, name: str) -> str:
    """A figure as SVG for the inside of a page; `name` keeps its inner ids apart from those of other drawings."""
    import matplotlib

    file = io.StringIO()
    # letters stay letters: they can be searched, scale with the page's font and take a tenth of the room of outlines
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata=_EMPTY_METADATA)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text, count=2)
    text = re.sub(r'<g id="trial:([^"]*)">', r'<g data-trial="\1">', text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="presentation">', text, count=1)
    for color, variable in _NAMES.items():
        text = re.sub(rf"(?<=[: ]){color}(?=[;\"])", f"var(--{variable})", text)
    return re.sub(r"\n\s*", "\n", text)
