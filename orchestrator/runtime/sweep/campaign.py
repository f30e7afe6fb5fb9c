"""A sweep while it runs: Ray Tune runs its trials in one thread, and the driver's main thread records them.

Contract: everything that a restart needs is in the ledger and the trials' folders before it has an effect; Tune keeps
nothing that is not there. Whoever asks the sweep to stop, a person or its budget, has its trials save and leave.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.exceptions import RayActorError
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE
from ray.tune.experiment import Trial

from orchestrator.checkpoint import TrainState, read_state
from orchestrator.config.schema import RunConfig, Verb
from orchestrator.runtime import cluster
from orchestrator.runtime.failures import last_line
from orchestrator.runtime.home import copy_of
from orchestrator.runtime.paths import JOURNAL, TRIALS, RunPaths, read_json
from orchestrator.runtime.patience import Patience
from orchestrator.runtime.recorder import Recorder
from orchestrator.runtime.sharing import share
from orchestrator.runtime.stopping import StopFile
from orchestrator.runtime.sweep.judge import build_judge
from orchestrator.runtime.sweep.ledger import Ledger, TrialState
from orchestrator.runtime.sweep.records import TrialRecords
from orchestrator.runtime.sweep.rounds import end_round, make_copies, round_ends
from orchestrator.runtime.sweep.search import LedgerSearch, Unkept, concurrency, gpus_of
from orchestrator.runtime.sweep.trial import SweepTrial, validations
from orchestrator.runtime.sweep.work import SweepWork
from orchestrator.sweeps.search import total_trials
from orchestrator.training.metrics import score

_TUNE = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output is silent when asked to be; progress is shown by `follow`
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # what they write is in the trials' journals
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver hears signals
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the ledger is what a sweep is restored from
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they are told in one line each
}
_SILENT = (
    "ray.tune.analysis.experiment_analysis",  # that it has no files to sum up: the trials' journals hold all of that
    "ray.tune.execution.experiment_state",  # that its snapshot, which nothing reads, does not fit on a full disk
    "ray.tune.tune",  # which trials failed, which has been told
)
"""What Tune logs that would mislead."""
_CREDENTIALS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"})
"""What Tune would put into every trial's runtime environment, which Ray writes into its logs: a trial has what its node
or its job has."""
_LEAVE_S = 60.0
"""Seconds that trials get to save and leave."""
_SPENT_EVERY_S = 5.0
_SHOW_EVERY_S = 30.0
_SHOW_SHARE = 0.02
"""The part of the time that may go into reports while trials train, which share the cores with them."""


class Campaign:
    """The part of a sweep that is not done yet.

    Args:
        config: the sweep's configuration.
        work: what its trials have in common.
        ledger: its trials.
        records: their records.
        recorder: of the sweep itself.
        tell: says a line to a person.
        show: called with the wall time so far when trials have ended.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: RunConfig,
        work: SweepWork,
        ledger: Ledger,
        records: TrialRecords,
        recorder: Recorder,
        tell: Callable[[str], None],
        *,
        show: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._work, self._ledger, self._records = config, work, ledger, records
        self._recorder, self._tell, self._show, self._clock = recorder, tell, show, clock
        self._began = self._noted = clock()
        self._ended, self._show_at = 0, -math.inf
        self._before = spent_s(work.paths)
        self._patience = Patience(config.checkpoint.retry_s, "the sweep's status", tell)
        self._search: LedgerSearch | None = None
        self._asked_at: float | None = None
        self._complete: set[str] = set()
        """Trials that have ended and whose journals are here to the end."""
        self.stopped = ""
        """Why it was asked to stop: `asked`, or what is used up; empty while it was not."""

    @property
    def seconds(self) -> float:
        """Wall time of the sweep, all starts together."""
        return self._before + self._clock() - self._began

    def run(self) -> None:
        """Run trials until none is left, or it is asked to stop."""
        os.environ.update(_TUNE)
        ENV_VARS_TO_PROPAGATE.difference_update(_CREDENTIALS)
        for name in _SILENT:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrency(self._config))
        references = self._share_states()
        for until in self._rounds():
            if until is not None and self._ledger.rounds:
                make_copies(self._work.paths, self._ledger, round_ends(self._config)[self._ledger.rounds - 1])
            self._fit(self._work.with_references(references, until))
            if self.stopped or until is None:
                return
            self._fetch(*(entry.trial for entry in self._ledger.trials()))
            for line in end_round(self._config, self._work.paths, self._ledger, until):
                self._tell(line)

    def look(self) -> None:
        """Record what is new, and stop what is to be stopped; called about twice a second."""
        active = self._search.active.copy() if self._search is not None else set()
        copy_of(self._work.paths).follow(*(f"{TRIALS}/{trial}/{JOURNAL}" for trial in sorted(active)))
        ended = self._records.look(active)
        now = self._clock()
        if now - self._noted >= _SPENT_EVERY_S:
            self._noted = now
            self._patience.attempt(lambda: self._recorder.running(spent_s=self.seconds))
        if ended != self._ended and now >= self._show_at:
            self._ended = ended
            self._show(self.seconds)
            self._show_at = now + max(_SHOW_EVERY_S, (self._clock() - now) / _SHOW_SHARE)
        if not self.stopped:
            asked = StopFile(self._work.paths.folder).asked()
            self.stopped = "asked" if asked else used_up(self._config, self._work, self._ledger, self.seconds)
        if self.stopped:
            self.ask()

    def ask(self) -> None:
        """Have all trials save and leave."""
        if self._asked_at is None:
            self._asked_at = self._clock()
            if self.stopped not in ("", "asked"):
                self._tell(f"{self.stopped}; trials save a checkpoint and leave")
        if self._search is not None:
            self._search.stopping = True
            for trial in list(self._search.active):
                StopFile(self._work.paths.trial(trial).folder).ask()

    def _rounds(self) -> list[int | None]:
        assert self._config.sweep is not None
        if self._config.sweep.scheduler != "pbt":
            return [None]
        return list(round_ends(self._config)[self._ledger.rounds :])

    def _fit(self, work: SweepWork) -> None:
        config, paths = self._config, self._work.paths
        judge = build_judge(config, self._ledger, self._tell)
        for entry in self._ledger.trials():
            if entry.state is not TrialState.WAITING:
                judge.remember(entry.trial, validations(paths.trial(entry.trial).journal))
        self._search = LedgerSearch(self._ledger, config, total_trials(config), self._score)
        for entry in self._ledger.entries.values():
            StopFile(paths.trial(entry.trial).folder).clear()
        shutil.rmtree(paths.tune, ignore_errors=True)
        tune.Tuner(
            tune.with_resources(tune.with_parameters(SweepTrial, work=work), _trial_resources(config)),
            tune_config=tune.TuneConfig(
                search_alg=self._search, scheduler=judge, num_samples=-1, reuse_actors=config.scale.num_workers <= 1
            ),
            run_config=tune.RunConfig(
                name=paths.tune.name,
                storage_path=str(paths.folder),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials save by themselves
                callbacks=[_Failures(self._search, self._tell)],
                failure_config=tune.FailureConfig(max_failures=config.scale.max_failures),
                stop=_Leaving(self),
                verbose=0,
            ),
        ).fit()
        shutil.rmtree(paths.tune, ignore_errors=True)

    def all_left(self) -> bool:
        """Whether the trials have left that were asked to, or had their time."""
        if self._asked_at is None or self._search is None:
            return False
        return not self._search.active or self._clock() - self._asked_at > _LEAVE_S

    def _score(self, trial: str) -> float | None:
        metric = self._config.checkpoint.metric
        if trial not in self._complete:
            ended = self._ledger.entries[trial].state is not TrialState.WAITING
            self._fetch(trial)
            self._complete |= {trial} if ended else set()
        found = [score(metric, row[metric]) for row in validations(self._work.paths.trial(trial).journal)]
        return max(found, default=None)

    def _fetch(self, *trials: str) -> None:
        """What these trials have said so far is here."""
        copy_of(self._work.paths).fetch(*(f"{TRIALS}/{trial}/{JOURNAL}" for trial in trials))

    def _share_states(self) -> Mapping[str, Any]:
        """The starting states in Ray's object store; one that does not fit there is read by every trial."""
        references: dict[str, Any] = {}
        for name, state in self._work.states.items():
            try:
                references[name] = share(needed_of(read_state(state.path), self._config.start.verb))
            except ray.exceptions.ObjectStoreFullError:
                self._tell(f"{name} does not fit into Ray's object store: every trial reads it by itself")
        return references


class _Leaving(Unkept, tune.Stopper):
    """Ends Tune's experiment when the trials that were asked to leave have done so."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._campaign.all_left()


class _Failures(Unkept, tune.Callback):
    """Tells what trials fail with."""

    def __init__(self, search: LedgerSearch, tell: Callable[[str], None]) -> None:
        self._search, self._tell = search, tell

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It is tried again from its latest checkpoint."""
        self._tell(f"trial {trial.trial_id} failed, and is tried again: {_error_of(trial)}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It failed too often."""
        self._tell(f"trial {trial.trial_id} failed: {_error_of(trial)}")
        self._search.failed(trial.trial_id, _error_of(trial))


def _error_of(trial: Trial) -> str:
    """What a trial failed with, in a line, as Tune has written it into its folder on the driver's machine.

    Tune's own way to read it looks into the storage, where it arrives later, and not at all on a full disk.
    """
    if trial.pickled_error_file is not None:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())  # this very process wrote it
        return "its process died" if isinstance(error, RayActorError) else last_line(error)
    return Path(trial.error_file).read_text().splitlines()[-1]


def spent_s(paths: RunPaths) -> float:
    """Wall time of a sweep, up to the latest start."""
    return float((read_json(paths.status) or {}).get("spent_s", 0.0))


def used_up(config: RunConfig, work: SweepWork, ledger: Ledger, seconds: float) -> str:
    """Which part of a sweep's budget is used up after so many seconds of wall time; empty while none is."""
    sweep = config.sweep
    assert sweep is not None
    if sweep.hours is not None and seconds >= sweep.hours * 3600:
        return f"`sweep.hours` ({sweep.hours:g}) are used up"
    if sweep.samples is not None and (seen := samples_seen(work, ledger)) >= sweep.samples:
        return f"`sweep.samples` ({sweep.samples:,}) are used up: {seen:,} were trained on"
    return ""


def samples_seen(work: SweepWork, ledger: Ledger) -> int:
    """Samples that all trials have trained on."""
    rows = [(read_json(work.paths.trial(trial).status) or {}).get("metrics", {}) for trial in list(ledger.entries)]
    return sum(int(row.get("samples", 0)) for row in rows)


def needed_of(state: TrainState, verb: Verb) -> TrainState:
    """A starting state without what a start of this kind does not take."""
    return state if verb == "resume" else replace(state, optimizer=None, scaler=None, rng=None)


def _trial_resources(config: RunConfig) -> dict[str, float]:
    if config.scale.num_workers > 1:
        # the trial only waits for its workers; Tune refuses to reserve nothing at all, so it gets one byte
        return {"cpu": 0, "memory": 1}
    gpu = {"gpu": gpus_of(config)} if cluster.wants_gpu(config.scale) else {}
    return {"cpu": config.scale.cpus_per_worker, **gpu}
