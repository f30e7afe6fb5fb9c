"""Decisions about a run from what its validations said. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from orchestrator.checkpoint import Best
from orchestrator.config.schema import TrainConfig
from orchestrator.training.chance import LearningState, Verdict
from orchestrator.training.metrics import score

STATE = "learning/state"
"""Key of the figure that tells the learning state of a validation: its place in `LearningState`."""
_STATES = tuple(LearningState)
_STUCK = (LearningState.COLLAPSED, LearningState.AT_CHANCE)


def better(best: Best | None, metric: str, metrics: Mapping[str, float], step: int) -> Best:
    """The best validation, with the one of `step` considered; on a tie the earlier stays."""
    value = metrics[metric]
    if best is None or score(metric, value) > score(metric, best.value):
        return Best(metric, value, step)
    return best


def scores_of(progress: Mapping[str, Any], best: Best | None, pairs_hash: str) -> dict[str, Any] | None:
    """The scores that a checkpoint's progress holds, where they are those of the best validation on these pairs."""
    known: dict[str, Any] | None = progress.get("scores")
    fitting = known is not None and best is not None and (known["step"], known["pairs_hash"]) == (best.step, pairs_hash)
    return known if fitting else None


def reason_to_end(history: Sequence[Mapping[str, float]], best: Best | None, settings: TrainConfig) -> str | None:
    """Why a run should end before its last step; none while it should go on.

    Args:
        history: one row per validation, oldest first.
        best: the best validation so far.
        settings: `patience` and `stop_at_chance`.
    """
    since = [row for row in history if best is not None and row["step"] > best.step]
    if settings.patience and len(since) >= settings.patience and best is not None:
        return f"{len(since)} validations without a better {best.metric} than {best.value:.4g} at step {best.step}"
    # what it began as says nothing about training; rows of a foreign file's history tell no state
    states = [_STATES[int(row[STATE])] for row in history if row["step"] > 0 and STATE in row]
    stuck = len(list(takewhile(lambda state: state in _STUCK, reversed(states))))
    if settings.stop_at_chance and stuck >= settings.stop_at_chance:
        return f"{stuck} validations in a row found it {states[-1]}"
    return None


def state_figure(verdict: Verdict) -> dict[str, float]:
    """The learning state as a figure that can be logged and put into a table."""
    return {STATE: float(_STATES.index(verdict.state))}


def plain(verdict: Verdict) -> dict[str, object]:
    """A verdict as plain data."""
    return {"state": str(verdict.state), "why": verdict.why, "causes": list(verdict.causes)}
