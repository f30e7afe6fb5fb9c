"""A sweep as plain data at one moment: what the report, the ranking in a terminal and MLflow are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.training.metrics import score


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """One validation of a trial."""

    step: int
    samples: int
    value: float
    """Of the sweep's metric."""


@dataclass(frozen=True)
class TrialSummary:
    """One trial: a point of the space that was, is or will be trained; or an untouched starting state."""

    trial: str
    """Its id, `000` and so on; the untouched starting states come first."""
    baseline: bool
    """Whether it is an untouched starting state, which is judged and not trained."""
    init: str
    """What it starts from, as a person gave it; empty from scratch."""
    settings: Mapping[str, Any]
    """The swept settings; empty for a baseline. With population-based training the latest ones."""
    state: str
    """`waiting`, `running`, `finished`, `stopped early`, `stopped` or `failed`."""
    why: str = ""
    """Why it was stopped early or failed; empty otherwise."""
    best: Interval | None = None
    """Its best value of the metric; none before its first validation."""
    best_step: int = 0
    gain: Interval | None = None
    """What it has over its baseline on the same pairs, higher is better whatever the metric; none for a baseline and
    for a trial from scratch of a sweep without one."""
    curve: tuple[Point, ...] = ()
    """Every validation, oldest first; step 0 included."""
    samples: int = 0
    """Samples that it trained on."""
    seconds: float = 0.0
    """How long it trained, all starts together."""
    learning: str = ""
    """The chance detector's latest state, e.g. `LEARNING` or `AT_CHANCE`."""
    checkpoint: str = ""
    """The folder of its best checkpoint."""
    run_id: str = ""
    """MLflow's id of its run."""


@dataclass(frozen=True)
class SweepSummary:
    """A whole sweep."""

    name: str
    metric: str
    """What trials are judged by: `val/accuracy`, `val/auc` or `val/loss`."""
    answer: str
    """The answer in one sentence, e.g. that no trial beats the pretrained file."""
    trials: tuple[TrialSummary, ...]
    """Every trial, the baselines first, in the order in which they were drawn."""
    champion: str | None
    """The id of the best one, which may be a baseline; none before there is any value."""
    lead: Interval | None
    """What the best trial has over the best untouched state, higher is better, with an interval that is corrected for
    the number of trials that it was picked from; none where there is nothing to compare."""
    pairs: int
    """Validation pairs that all of them are judged on."""
    pairs_hash: str
    clips: int
    """Clips that these come from."""
    search: str
    """How points were drawn: `random`, `grid` or `tpe`."""
    scheduler: str
    """What stopped trials: `none`, `asha`, `median` or `pbt`."""
    importance: Mapping[str, float] = field(default_factory=dict)
    """Swept setting -> its share of what made trials differ, adding up to 1; empty where too few are known."""
    notes: tuple[str, ...] = ()
    """What a person should know before believing it, one sentence each."""
    hours: float = 0.0
    """Wall time of the sweep, all starts together."""
    open_mlflow: str = ""
    """What to type, or open in a browser, to see it in MLflow."""

    @property
    def ranking(self) -> list[TrialSummary]:
        """Best first; those without any value last; among equals the earlier first, a baseline before all."""
        known = sorted((t for t in self.trials if t.best), key=lambda t: -score(self.metric, t.best.value))  # type: ignore[union-attr]
        return [*known, *(trial for trial in self.trials if not trial.best)]
