"""The answer of a sweep in one sentence: does anything beat the file that it started from, and how sure is that. Pure.

The interval behind the answer is corrected for the number of trials (Bonferroni): of twenty trials that are no better
than the file one will look better at 95% by luck alone.
"""

from __future__ import annotations

from orchestrator.sweeps.summary import Interval, TrialSummary
from orchestrator.training.intervals import CONFIDENCE
from orchestrator.training.metrics import score

_POINTS = {"val/accuracy": 100.0}
"""Metrics that people count in percentage points."""


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
    ended = [trial for trial in trials if not trial.baseline and trial.best is not None]
    if champion is None:
        return "nothing has been validated yet"
    assert champion.best is not None
    if not ended:
        return f"the starting state has {metric} {champion.best.value:.4g}; no trial has been validated yet"
    if champion.baseline:
        return f"no trial beats the pretrained file, whose {metric} is {champion.best.value:.4g}"
    best = f"trial {champion.trial} has the best {metric}, {champion.best.value:.4g}"
    if lead is None:
        return best
    how_sure = f"the gain is {_signed(metric, lead.value)}, 95% interval {_signed(metric, lead.low)} to "
    how_sure += f"{_signed(metric, lead.high)}, corrected for {len(ended)} trials"
    if lead.low > 0:
        return f"{best}, and beats the pretrained file: {how_sure}"
    return f"no trial clearly beats the pretrained file: {best}, but {how_sure}"


def _signed(metric: str, value: float) -> str:
    if metric in _POINTS:
        return f"{value * _POINTS[metric]:+.1f} points"
    return f"{value:+.4f}"
