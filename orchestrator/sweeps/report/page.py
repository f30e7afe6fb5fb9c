"""Write a sweep's report: one HTML file that needs nothing else, neither a network nor a server.

Contract: the file appears whole or not at all. Names, settings, errors and paths come from people and files and are
shown as text, whatever they hold: the template escapes everything, and the page's own policy lets no other script run
and nothing be loaded. The same summary gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.charts.drawing import drawing
from orchestrator.charts.page import environment, filled
from orchestrator.charts.scales import ABSENT, value_text
from orchestrator.charts.style import STATES, counted, shortened, shown, shown_gain, title_of
from orchestrator.storage import redacted
from orchestrator.storage.local import atomic_writer
from orchestrator.sweeps.report import view
from orchestrator.sweeps.report.cost import cost_of
from orchestrator.sweeps.report.pictures import figures
from orchestrator.sweeps.summary import Interval, SweepSummary

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = "report.html"
"""The file's name."""

_HERE = Path(__file__).parent
_SHOWN = 30
"""Rows of the ranking before a button shows the others."""
_TEMPLATE = "page.html.j2"


def write_report(summary: SweepSummary, folder: Path) -> Path:
    """Write the report of a sweep into a folder, over an earlier one; gives the file."""
    path = folder / REPORT
    text = render(summary)
    with atomic_writer(path) as file:
        file.write(text.encode("utf-8", "replace"))
    return path


def render(summary: SweepSummary) -> str:
    """The report as text."""
    from markupsafe import Markup

    # our own files and drawings are the only markup; all else is escaped by the template
    drawings = {name.removesuffix(".png"): Markup(drawing(one, name)) for name, one in figures(summary).items()}
    return filled(_environment(summary.metric), _HERE, _TEMPLATE, {"drawings": drawings, **_content(summary)})


def _content(summary: SweepSummary) -> dict[str, Any]:
    """What the template fills in."""
    trained = [trial for trial in summary.trials if not trial.baseline]
    champion = view.champion_of(summary)
    lead = summary.lead if champion and not champion.baseline else None
    return {
        "sweep": summary,
        "trained": trained,
        "champion": champion,
        "lead": lead,
        "hero": view.hero_bar(lead) if lead else None,
        "facts": view.facts(summary),
        "columns": view.columns(summary),
        "lines": view.ranking_lines(summary),
        "several_starts": len({trial.init for trial in summary.trials}) > 1,
        "open_trials": [trial for trial in trained if trial.state in view.UNSETTLED],
        "stopped": [trial for trial in trained if trial.state in ("stopped early", "stopped")],
        "failed": [trial for trial in trained if trial.state == "failed"],
        "cost": cost_of(summary.trials),
    }


def _environment(metric: str) -> Environment:
    """The template's engine; figures of the metric are written as in the charts."""
    made = environment(_HERE)
    made.filters |= {
        "value": lambda number: shown(metric, number),
        "gain": lambda number: shown_gain(metric, number),
        "interval": lambda found: _interval(metric, found),
        "gain_interval": lambda found: f"{shown_gain(metric, found.low)} … {shown_gain(metric, found.high)}",
        "setting": value_text,
        "address": redacted,
        "shortened": shortened,
        "counted": counted,
        "duration": view.duration,
        "file": view.file_name,
        "overrides": view.overrides,
        "slug": lambda state: state.replace(" ", "-") if state in STATES else "other",
    }
    made.globals |= {"metric_title": title_of(metric), "ABSENT": ABSENT, "SHOWN": _SHOWN}
    return made


def _interval(metric: str, found: Interval) -> str:
    return f"{shown(metric, found.low)} … {shown(metric, found.high)}"
