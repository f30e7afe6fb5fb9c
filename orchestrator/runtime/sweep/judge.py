"""Stopping trials early: Ray Tune's schedulers, with a memory that survives the driver and a reason for every stop.

Ours around theirs: baselines are never judged; trials are compared at equal numbers of samples, since a step of a
larger batch shows more; a trial at chance is not stopped before another one has left chance behind at no more samples,
because on the plateau at ln 2 the order of trials is noise; and what the scheduler knew is told to it again from the
trials' journals when a sweep goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from orchestrator.config.schema import RunConfig
from orchestrator.config.trial import samples_of
from orchestrator.runtime.sweep.ledger import Ledger, TrialState
from orchestrator.runtime.sweep.search import Unkept
from orchestrator.runtime.sweep.trial import SAMPLES
from orchestrator.training.chance import LearningState
from orchestrator.training.metrics import score
from orchestrator.training.policies import STATE

TRAINED = "trial/samples"
"""Key of a result: the samples that the trial has trained on since its own start."""
_NEVER: int = math.inf  # type: ignore[assignment]  # samples after which a trial is paused to let others catch up
_STATES = tuple(LearningState)


@dataclass(frozen=True)
class Seen:
    """One validation of a trial."""

    samples: int
    """Since the trial's own start."""
    value: float
    learns: bool
    """Whether it has left chance behind."""


class Judge(Unkept, TrialScheduler):
    """A scheduler of Ray Tune that tells why.

    Args:
        inner: decides.
        ledger: where stops are written down.
        metric: what trials are judged by.
        name: of the inner scheduler, for a person.
        tell: says a line to a person.
    """

    def __init__(
        self, inner: TrialScheduler, ledger: Ledger, metric: str, name: str, tell: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._inner, self._ledger, self._judged_by, self._name, self._tell = inner, ledger, metric, name, tell
        self._seen: dict[str, list[Seen]] = {}
        self._first: dict[str, int] = {}
        self._spared: set[str] = set()

    def remember(self, trial: str, results: Iterable[Mapping[str, Any]]) -> None:
        """Tell the scheduler of a trial that has ended before."""
        known = _Known(trial)
        self._inner.on_trial_add(None, known)  # type: ignore[arg-type]
        for result in results:
            self._inner.on_trial_result(None, known, self._take(trial, result))  # type: ignore[arg-type]

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if self._is_judged(trial):
            self._inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        if self._is_judged(trial):
            self._inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """What becomes of a trial after a validation."""
        if not self._is_judged(trial) or self._judged_by not in result:
            return TrialScheduler.CONTINUE
        decision: str = self._inner.on_trial_result(tune_controller, trial, self._take(trial.trial_id, result))
        if decision != TrialScheduler.STOP:
            return decision
        if self._all_at_chance(trial.trial_id):
            self._spare(trial.trial_id)
            return TrialScheduler.CONTINUE
        why = self._why(trial.trial_id)
        self._ledger.end(trial.trial_id, TrialState.STOPPED_EARLY, why)
        self._tell(f"trial {trial.trial_id} is stopped: {why}")
        return TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        if self._is_judged(trial) and self._judged_by in result:
            self._inner.on_trial_complete(tune_controller, trial, self._relative(trial.trial_id, result))

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        if self._is_judged(trial):
            self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        return FIFOScheduler.choose_trial_to_run(self, tune_controller)  # type: ignore[arg-type]  # in their order

    def debug_string(self) -> str:
        return str(self._inner.debug_string())

    def _is_judged(self, trial: Trial) -> bool:
        return not self._ledger.entries[trial.trial_id].baseline

    def _take(self, trial: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """Remember a result; it comes back with the samples since the trial's own start."""
        relative = self._relative(trial, result)
        learns = _STATES[int(result.get(STATE, 0))] in (LearningState.LEARNING, LearningState.OVERFITTING)
        self._seen.setdefault(trial, []).append(Seen(relative[TRAINED], float(result[self._judged_by]), learns))
        return relative

    def _relative(self, trial: str, result: Mapping[str, Any]) -> dict[str, Any]:
        samples = int(result[SAMPLES])
        return {**result, TRAINED: samples - self._first.setdefault(trial, samples)}

    def _all_at_chance(self, trial: str) -> bool:
        """Whether neither this trial nor any other has learned anything by now."""
        now = self._seen[trial][-1].samples
        return not any(seen.learns and seen.samples <= now for every in self._seen.values() for seen in every)

    def _spare(self, trial: str) -> None:
        if trial not in self._spared:
            self._spared.add(trial)
            self._tell(f"trial {trial} lags behind at chance, where the order is noise: it goes on")

    def _why(self, trial: str) -> str:
        """The evidence, in one sentence."""
        now = self._seen[trial][-1]
        others = [_by(every, now.samples) for name, every in self._seen.items() if name != trial]
        known = [value for value in others if value is not None]
        better = sum(score(self._judged_by, value) > score(self._judged_by, now.value) for value in known)
        found = f"after {now.samples:,} samples its {self._judged_by} was {now.value:.4g}"
        return f"{self._name}: {found}, and {better} of the {len(known)} other trials that got so far had better"


def build_judge(config: RunConfig, ledger: Ledger, tell: Callable[[str], None]) -> Judge:
    """The scheduler of a sweep that stops trials early, or never does."""
    sweep, metric = config.sweep, config.checkpoint.metric
    assert sweep is not None
    mode = "min" if metric.endswith("loss") else "max"
    grace = grace_samples(config)
    inner: TrialScheduler = FIFOScheduler()
    if sweep.scheduler == "asha":
        # beyond the last sample: a trial that gets there ends by itself
        most = max(samples_of(config), grace) + 1
        inner = ASHAScheduler(TRAINED, metric, mode, most, grace, reduction_factor=sweep.reduction)
    elif sweep.scheduler == "median":
        inner = MedianStoppingRule(TRAINED, metric, mode, grace, min_samples_required=2, min_time_slice=_NEVER)
    return Judge(inner, ledger, metric, sweep.scheduler, tell)


def grace_samples(config: RunConfig) -> int:
    """Samples before which nothing is stopped."""
    sweep, train = config.sweep, config.train
    assert sweep is not None
    if sweep.grace_steps is not None:
        return sweep.grace_steps * train.global_batch
    warm_up = sweep.space.get("optim.warmup_steps")
    longest = max((*(warm_up.range or ()), *warm_up.listed) if warm_up else (config.optim.warmup_steps,))
    steps = max(config.eval.every, -(-train.steps // 10), int(longest))
    return min(steps, train.steps) * train.global_batch


@dataclass(eq=False)
class _Known:
    """A trial that has ended, as far as a scheduler looks at it."""

    trial_id: str


def _by(every: list[Seen], samples: int) -> float | None:
    """The value that a trial had by then; none where it did not get so far."""
    if not every or every[-1].samples < samples:
        return None
    return next(seen.value for seen in reversed(every) if seen.samples <= samples)
