"""Ray Tune's view of the ledger: the trials that are left, then new ones, as many as there is room for.

Contract: what is given to Tune is in the ledger before; Tune's ids of trials are the ledger's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.tune.experiment import Experiment, Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.search import SearchAlgorithm

from orchestrator.config.schema import RunConfig
from orchestrator.runtime import cluster
from orchestrator.runtime.sweep.ledger import Entry, Ledger, TrialState
from orchestrator.runtime.sweep.trial import ENDED, WHY
from orchestrator.sweeps.search import Known, propose


class Unkept:
    """Something that Tune pickles, and that is built anew from the ledger instead of being read back."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


Scores = Callable[[str], float | None]
"""Id of a trial -> its best value so far, higher is better."""


class LedgerSearch(Unkept, SearchAlgorithm):
    """Hands out trials.

    Args:
        ledger: the sweep's.
        config: the sweep's configuration.
        total: trials in all, baselines not counted.
        score: how good a trial was so far.
    """

    def __init__(self, ledger: Ledger, config: RunConfig, total: int, score: Scores) -> None:
        self._ledger, self._config, self._total, self._score = ledger, config, total, score
        self._left = ledger.waiting()
        self.active: set[str] = set()
        """Trials that Tune has and that have not ended."""
        self._spec: dict[str, Any] = {}
        self._parser = _make_parser()
        self.stopping = False
        """Nothing more is handed out."""

    @property
    def total_samples(self) -> int:
        return self._total

    def add_configurations(self, experiments: Any) -> None:
        (experiment,) = experiments if isinstance(experiments, list) else [experiments]
        assert isinstance(experiment, Experiment)
        self._spec = experiment.spec

    def next_trial(self) -> Trial | None:
        """The next trial; none while there is no room for it, or nothing left."""
        if self.is_finished() or len(self.active) >= concurrency(self._config):
            return None
        entry = self._left.pop(0) if self._left else self._draw()
        self.active.add(entry.trial)
        spec = copy.deepcopy(self._spec)
        spec["config"] = {"trial": entry.trial, "point": dict(entry.point), "baseline": entry.baseline}
        return _create_trial_from_spec(spec, self._parser, experiment_tag=entry.trial, trial_id=entry.trial)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Write down how a trial ended, unless somebody has done so already, or it was only asked to pause."""
        self.active.discard(trial_id)
        if error or self._ledger.entries[trial_id].state is not TrialState.WAITING:
            return
        state, why = (result or {}).get(ENDED, "stopped"), (result or {}).get(WHY, "")
        if state != "stopped":
            self._ledger.end(trial_id, TrialState(state), why)

    def failed(self, trial: str, why: str) -> None:
        """Write down that a trial failed too often."""
        self.active.discard(trial)
        self._ledger.end(trial, TrialState.FAILED, why)

    def is_finished(self) -> bool:
        return self.stopping or (not self._left and len(self._ledger.trials()) >= self._total)

    def set_finished(self) -> None:
        self.stopping = True

    def _draw(self) -> Entry:
        drawn = self._ledger.trials()
        known = [Known(entry.point, self._score(entry.trial), entry.state is not TrialState.WAITING) for entry in drawn]
        return self._ledger.draw(propose(self._config, len(drawn), known))


def concurrency(config: RunConfig, resources: Mapping[str, float] | None = None) -> int:
    """Trials at once, so that every one of them can place all its workers; at least one, which then waits.

    Args:
        config: the sweep's.
        resources: what the cluster has; asked of it where left out.
    """
    assert config.sweep is not None
    found = ray.cluster_resources() if resources is None else resources
    workers = max(1, config.scale.num_workers)
    fits = [found.get("CPU", 1) / (workers * config.scale.cpus_per_worker)]
    if cluster.wants_gpu(config.scale, found):
        fits.append(found.get("GPU", 0) / gpus_of(config))
    most = max(1, int(min(fits) + 1e-9))
    return min(most, config.sweep.max_concurrent or most)


def gpus_of(config: RunConfig) -> float:
    """GPUs that one trial takes, where trials take them."""
    assert config.sweep is not None
    return config.scale.num_workers if config.scale.num_workers > 1 else config.sweep.gpus_per_trial
