"""Where the work of a sweep went, and about how much early stopping spared.

Contract: what was spent is counted; what was spared is an estimate, made only where a finished trial shows how long a
full one takes: a trial that was stopped at a third of these steps spared twice what it had spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from orchestrator.charts.style import STATES
from orchestrator.sweeps.summary import TrialSummary


@dataclass(frozen=True)
class Part:
    """What all trials of one state took together."""

    state: str
    trials: int
    samples: int
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What a sweep took; untouched starting states take nothing."""

    parts: tuple[Part, ...]
    """By state, in the order of the legends; states that took nothing are left out."""
    spared_samples: float
    spared_seconds: float
    """By early stopping, about; 0 where it is not known."""

    @property
    def samples(self) -> int:
        """Of all trials."""
        return sum(part.samples for part in self.parts)

    @property
    def seconds(self) -> float:
        """Of all trials, one after the other."""
        return sum(part.seconds for part in self.parts)

    @property
    def spared_share(self) -> float:
        """Of what the sweep would have taken without early stopping, in samples."""
        whole = self.samples + self.spared_samples
        return self.spared_samples / whole if whole else 0.0


def cost_of(trials: Sequence[TrialSummary]) -> Cost:
    """Counted by the state of the trials."""
    trained = [trial for trial in trials if not trial.baseline]
    states = dict.fromkeys([*STATES, *(trial.state for trial in trained)])
    parts = [_part(state, [trial for trial in trained if trial.state == state]) for state in states]
    full = [trial.curve[-1].step for trial in trained if trial.state == "finished" and trial.curve]
    stopped = [trial for trial in trained if trial.state == "stopped early" and trial.curve and trial.curve[-1].step]
    left = [max(median(full) / trial.curve[-1].step - 1, 0.0) if full else 0.0 for trial in stopped]
    return Cost(
        tuple(part for part in parts if part.samples or part.seconds),
        sum(factor * trial.samples for factor, trial in zip(left, stopped, strict=True)),
        sum(factor * trial.seconds for factor, trial in zip(left, stopped, strict=True)),
    )


def _part(state: str, trials: Sequence[TrialSummary]) -> Part:
    return Part(state, len(trials), sum(t.samples for t in trials), sum(t.seconds for t in trials))
