"""`sweep`: many trials from one normalized state, judged on the same pairs, with the untouched file among them.

The starting state is normalized once, before Tune begins; trials see only the normalized directory. A trial with one
worker runs the loop inside the Tune trainable, because a nested worker group costs seconds and CPUs; a trial with more
workers runs a Ray Train group below a trainable that itself reserves nothing, so that two cores cannot deadlock.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator
from rich.console import Console

from orchestrator.charts import sweep_chart
from orchestrator.config.load import ConfigSource, apply_settings, as_config, load_config
from orchestrator.config.schema import Dimension, RunConfig, SweepConfig
from orchestrator.errors import ConfigError
from orchestrator.runtime import cluster
from orchestrator.runtime.execute import run_here, run_on_ray
from orchestrator.runtime.paths import RunPaths, driving, read_json
from orchestrator.runtime.progress import follow
from orchestrator.runtime.recorder import Recorder, RecordTarget
from orchestrator.runtime.stopping import StopFile
from orchestrator.runtime.train import announce_start, log_charts, prepare_job, recording, tracking_uri
from orchestrator.runtime.worker import Assignment
from orchestrator.training.evaluation import evaluate
from orchestrator.training.metrics import score
from orchestrator.training.retention import best_of, checkpoints_in

_QUIET_TUNE = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output is silent when asked to be; progress is shown by `follow`
}


@dataclass(frozen=True)
class TrialRow:
    """One line of the ranking."""

    trial: str
    """The trial's id, or `baseline` for the untouched starting state."""
    settings: dict[str, Any]
    """The swept settings; empty for the baseline."""
    value: float | None
    """The best value of the checkpoint metric; none for a trial that failed before its first validation."""
    step: int
    """Where that value was reached."""
    state: str
    """`baseline`, `finished`, `stopped early` or `failed`."""
    checkpoint: Path | None
    """The checkpoint with that value."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has to show."""

    name: str
    folder: Path
    metric: str
    ranking: list[TrialRow]
    """Best first, the baseline among them."""
    baseline: TrialRow | None
    """None for a sweep from scratch."""
    run_id: str
    """MLflow's id of the parent run."""
    tracking_uri: str

    @property
    def best(self) -> TrialRow:
        """The first of the ranking: possibly the baseline itself, when no trial beats it."""
        return self.ranking[0]


def sweep(config: ConfigSource, name: str, *, console: Console | None = None) -> SweepResult:
    """Start the sweep `name`, or continue it: finished trials are not repeated.

    Args:
        config: the configuration, checked or as a file or mapping; its `sweep` section must be given.
        name: the sweep's name, unique under `config.storage`.
        console: where progress is shown; none shows nothing.

    Raises:
        OrchestratorError: bad input, or another run under this name.
    """
    config = as_config(config)
    if config.sweep is None:
        raise ConfigError(["`sweep` is required, but missing"], hint="see configs/sweep.yaml for an example")
    console = console or Console(quiet=True)
    paths = RunPaths.of(config.storage, name)
    job = prepare_job(config, paths)
    target = RecordTarget(paths, tracking_uri(config), config.tracking.experiment, name, config.train.steps)
    announce_start(job, paths, console)
    cluster.connect(config.scale)
    cluster.require_cpus(config.scale)
    with driving(paths), recording(target, job) as record:
        recorder = record.wait()
        parent = recorder.writer.run_id
        recorder.running(trials=trial_count(config.sweep), metric=config.checkpoint.metric)
        baseline = _baseline(job, config)
        os.environ.update(_QUIET_TUNE)
        with follow(paths, console):
            results = _tuner(job, config, paths, target, parent).fit()
        ranking = _ranking(results, config, paths, baseline)
        result = SweepResult(name, paths.folder, config.checkpoint.metric, ranking, baseline, parent, target.uri)
        _conclude(recorder, result)
    return result


def run_trial(settings: dict[str, Any], *, job: Assignment, target: RecordTarget) -> None:
    """The Tune trainable: one trial, continued from its own checkpoint where it has one."""
    trial = tune.get_context().get_trial_id()
    paths = target.paths.trial(trial)
    config = apply_settings(load_config(job.config), settings)
    own = Assignment(config.model_dump(mode="json"), str(paths.folder), job.start_state, job.origin)
    own_target = RecordTarget(
        paths,
        target.uri,
        target.experiment,
        f"{target.key}/{trial}",
        config.train.steps,
        parent_run_id=target.parent_run_id,
        tags={"trial": trial, **{f"swept.{key}": str(value) for key, value in settings.items()}},
    )
    with recording(own_target, own) as record:
        recorder = record.wait()
        StopFile(paths.folder).clear()
        if config.scale.num_workers <= 1:
            run_here(own, recorder, on_report=_tell_tune)
        else:
            run_on_ray(own, record, on_report=_tell_tune)
        log_charts(recorder.writer, target.uri, config.loss.name)
        recorder.end("finished")


def search_space(sweep: SweepConfig) -> dict[str, Any]:
    """The swept settings as Tune draws them."""
    return {setting: _domain(dimension) for setting, dimension in sweep.space.items()}


def trial_count(sweep: SweepConfig) -> int:
    """Trials in all: the draws, times the points of the grids."""
    return sweep.trials * math.prod(len(dimension.grid) for dimension in sweep.space.values() if dimension.grid)


def concurrency(config: RunConfig, cpus: float) -> int:
    """Trials at once, so that every one of them can place all its workers."""
    fits = max(1, math.floor(cpus / (max(1, config.scale.num_workers) * config.scale.cpus_per_worker)))
    wanted = config.sweep.max_concurrent if config.sweep else 0
    return min(fits, wanted) if wanted else fits


def _tuner(job: Assignment, config: RunConfig, paths: RunPaths, target: RecordTarget, parent: str) -> tune.Tuner:
    assert config.sweep is not None
    nested = RecordTarget(paths, target.uri, target.experiment, target.key, target.total_steps, parent_run_id=parent)
    trainable = tune.with_resources(tune.with_parameters(run_trial, job=job, target=nested), _trial_resources(config))
    tune_folder = paths.folder / "tune"
    if tune.Tuner.can_restore(str(tune_folder)):
        return tune.Tuner.restore(str(tune_folder), trainable, resume_unfinished=True, restart_errored=True)
    return tune.Tuner(
        trainable,
        param_space=search_space(config.sweep),
        tune_config=tune.TuneConfig(
            metric=config.checkpoint.metric,
            mode="min" if config.checkpoint.metric.endswith("loss") else "max",
            num_samples=config.sweep.trials,
            scheduler=_scheduler(config),
            search_alg=BasicVariantGenerator(
                max_concurrent=concurrency(config, ray.cluster_resources().get("CPU", 1)),
                random_state=config.sweep.seed,
            ),
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=tune_folder.name,
            storage_path=str(paths.folder),
            failure_config=tune.FailureConfig(max_failures=max(0, config.scale.max_failures)),
            verbose=0,
        ),
    )


def _trial_resources(config: RunConfig) -> dict[str, float]:
    if config.scale.num_workers > 1:
        # the trial only waits for its workers; Tune refuses to reserve nothing at all, so it gets one byte
        return {"cpu": 0, "memory": 1}
    gpu = {"gpu": 1.0} if cluster.wants_gpu(config.scale) else {}
    return {"cpu": config.scale.cpus_per_worker, **gpu}


def _scheduler(config: RunConfig) -> TrialScheduler:
    assert config.sweep is not None
    if config.sweep.scheduler == "none":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="step",
        # beyond the last step: a trial that gets there ends by itself, and closes its own record
        max_t=config.train.steps + 1,
        grace_period=min(config.sweep.grace_steps, config.train.steps),
    )


def _domain(dimension: Dimension) -> Any:
    if dimension.loguniform:
        return tune.loguniform(*dimension.loguniform)
    if dimension.uniform:
        return tune.uniform(*dimension.uniform)
    if dimension.choice:
        return tune.choice(list(dimension.choice))
    return tune.grid_search(list(dimension.grid or ()))


def _tell_tune(metrics: Mapping[str, float]) -> None:
    # schedulers compare trials by the validated metric, and refuse a report without it
    if any(key.startswith("val/") for key in metrics):
        tune.report(dict(metrics))


def _baseline(job: Assignment, config: RunConfig) -> TrialRow | None:
    """The untouched starting state, on the same pairs as every trial."""
    if job.start_state is None:
        return None
    report = evaluate(
        job.start_state,
        job.config["data"]["path"],
        pairs=config.eval.pairs,
        batch=config.eval.batch,
        min_shift=config.data.min_shift,
        max_shift=config.data.max_shift,
    )
    metric = config.checkpoint.metric
    value = report.metrics[metric.removeprefix("val/")]
    return TrialRow("baseline", {}, value, 0, "baseline", Path(job.start_state))


def _ranking(results: tune.ResultGrid, config: RunConfig, paths: RunPaths, baseline: TrialRow | None) -> list[TrialRow]:
    found = [results[index] for index in range(len(results))]
    trials = [_row(Path(result.path).name, result, config, paths) for result in found]
    metric = config.checkpoint.metric
    # the stable sort keeps the baseline before a trial that only equals it, and equal trials in the order of their ids
    rows = [*([baseline] if baseline else []), *sorted(trials, key=lambda row: row.trial)]
    return sorted(rows, key=lambda row: -score(metric, row.value) if row.value is not None else math.inf)


def _row(trial: str, result: Any, config: RunConfig, paths: RunPaths) -> TrialRow:
    own = paths.trial(trial)
    status, saved = read_json(own.status) or {}, checkpoints_in(own.folder)
    settings = {key: (result.config or {}).get(key) for key in (config.sweep.space if config.sweep else {})}
    state = "failed" if result.error else "finished" if status.get("state") == "finished" else "stopped early"
    metrics = status.get("metrics", {})
    if not saved or "best/value" not in metrics:
        return TrialRow(trial, settings, None, int(status.get("step", 0)), state, None)
    step = int(metrics["best/step"])
    return TrialRow(trial, settings, metrics["best/value"], step, state, best_of(saved, config.checkpoint.metric))


def _conclude(recorder: Recorder, result: SweepResult) -> None:
    """Close what Tune stopped, and put the ranking into MLflow."""
    for row in result.ranking:
        if row.state == "stopped early":
            _close_stopped(recorder.target, row)
    rows = [
        {"trial": row.trial, "settings": row.settings, result.metric: row.value, "step": row.step, "state": row.state}
        for row in result.ranking
    ]
    baseline = result.baseline.value if result.baseline else None
    writer = recorder.writer
    writer.log_dict({"metric": result.metric, "ranking": rows}, "ranking.json")
    trials = [row for row in rows if row["trial"] != "baseline"]
    writer.log_figure(sweep_chart(trials, result.metric, baseline), "charts/sweep.png")
    if result.best.value is not None:
        writer.log_metrics({"best/value": result.best.value}, recorder.target.total_steps)
    writer.set_tags({"best_trial": result.best.trial})
    recorder.end("finished")


def _close_stopped(target: RecordTarget, row: TrialRow) -> None:
    """Tune ends a stopped trial's process, which therefore cannot close its own run."""
    key = f"{target.key}/{row.trial}"
    stopped = replace(target, paths=target.paths.trial(row.trial), key=key, tags={"stopped": "early"})
    Recorder(stopped).end("stopped early")
