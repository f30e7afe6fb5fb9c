"""The answer of a sweep in one sentence: does anything beat the file that it started from, and how sure is that. Pure.

The interval behind the answer is corrected for the number of trials (Bonferroni): of twenty trials that are no better
than the file one will look better at 95% by luck alone.
"""

from __future__ import annotations

from orchestrator.charts.style import shown, shown_gain, title_of
from orchestrator.sweeps.summary import Interval, TrialSummary
from orchestrator.training.intervals import CONFIDENCE
from orchestrator.training.metrics import score


def corrected_confidence(trials: int) -> float:
    """The confidence of each of so many intervals with which all of them hold together at 95%."""
    return 1 - (1 - CONFIDENCE) / max(1, trials)


def champion_of(metric: str, trials: list[TrialSummary]) -> TrialSummary | None:
    """The best trial, a baseline where nothing beats it; none before there is any value."""
    known = [trial for trial in trials if trial.best is not None]
    # among equals the earlier one, and baselines come first
    return max(known, key=lambda trial: score(metric, trial.best.value), default=None)  # type: ignore[union-attr]


def answer_of(metric: str, trials: list[TrialSummary], lead: Interval | None) -> str:
    """One sentence.

    Args:
        metric: what the trials are judged by.
        trials: all of them.
        lead: as in `SweepSummary`.
    """
    champion = champion_of(metric, trials)
    if champion is None or champion.best is None:
        return "nothing has been validated yet"
    name, value = title_of(metric), shown(metric, champion.best.value)
    if all(trial.baseline or trial.best is None for trial in trials):
        return f"the pretrained file has {name} {value}; no trial has been validated yet"
    if champion.baseline:
        return f"no trial beats the pretrained file, whose {name} is {value}"
    start = champion_of(metric, [trial for trial in trials if trial.baseline])
    if lead is None or start is None or start.best is None:
        return f"trial {champion.trial} has the best {name}, {value}"
    found = f"{name} {value} instead of {shown(metric, start.best.value)}"
    low, high = shown_gain(metric, lead.low), shown_gain(metric, lead.high)
    sure = f"gain {shown_gain(metric, lead.value)}, 95% interval {low} to {high}"
    if lead.low > 0:
        return f"trial {champion.trial} beats the pretrained file: {found} ({sure})"
    return f"no trial clearly beats the pretrained file: the best, trial {champion.trial}, has {found} ({sure})"
