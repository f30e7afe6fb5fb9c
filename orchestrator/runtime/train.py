"""`train`: start or continue a run, on this machine or on a Ray cluster, and leave a complete record of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.charts import accuracy_chart, loss_chart
from orchestrator.checkpoint import export, normalize, read_plain
from orchestrator.checkpoint.shelf import name_of
from orchestrator.config.load import ConfigSource, as_config
from orchestrator.config.schema import RunConfig
from orchestrator.data.corpus import Corpus
from orchestrator.errors import ConfigError, RunError, RunStopped
from orchestrator.runtime import cluster, execute, logs
from orchestrator.runtime.home import at_home
from orchestrator.runtime.identity import claim
from orchestrator.runtime.job import describe_run, described
from orchestrator.runtime.lease import driving
from orchestrator.runtime.paths import RunPaths, read_json
from orchestrator.runtime.patience import REFUSALS
from orchestrator.runtime.progress import follow
from orchestrator.runtime.recorder import OpeningRecord, Recorder, RecordTarget
from orchestrator.runtime.stopping import StopFile, stoppable
from orchestrator.runtime.worker import Assignment, StartingState
from orchestrator.storage import Location, redacted
from orchestrator.tracking import RunWriter, close_stale, read_history, resolve_uri
from orchestrator.training.fitting import check_fits
from orchestrator.training.freezing import check_freeze
from orchestrator.training.retention import best_of, checkpoints_in


@dataclass(frozen=True)
class TrainResult:
    """What a finished run has to show."""

    name: str
    folder: Location
    """The run's folder: a path, or a URI in object storage."""
    start: dict[str, Any]
    """The start decision of the run's first start."""
    step: int
    """Optimizer steps taken."""
    baseline: float | None
    """The checkpoint metric at step 0; none for a run that resumed or forked elsewhere."""
    best: float
    """The best value of the checkpoint metric."""
    best_step: int
    best_checkpoint: Location
    """The checkpoint with that value; if the storage refused that one, the best of the others."""
    metrics: dict[str, float]
    """The latest value of every metric."""
    run_id: str
    """MLflow's id of the run."""
    tracking_uri: str
    verdict: dict[str, Any]
    """What the latest validation said about learning: `state`, `why` and likely `causes`."""
    ended: str | None
    """Why it left before its last step; none when it did not."""


def train(
    config: ConfigSource,
    name: str,
    *,
    console: Console | None = None,
    parent_run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> TrainResult:
    """Start the run `name`, or continue it: the same call does both.

    Args:
        config: the configuration, checked or as a file or mapping; `data.path` must be given.
        name: the run's name, unique under `config.storage`.
        console: where progress is shown; none shows nothing.
        parent_run_id: MLflow's id of the run to nest this one under.
        tags: further tags of its MLflow run.

    Raises:
        RunStopped: it was asked to stop, by a first SIGTERM or Ctrl-C; it continues with the same call.
        OrchestratorError: bad input, another run under this name, or a failure that retries did not mend.
    """
    config = as_config(config)
    console = console or Console(quiet=True)
    paths, uri = RunPaths.of(config.storage, name), tracking_uri(config)

    def tell(text: str) -> None:
        logs.say(console, name, text)

    with at_home(paths, drives=True, tell=tell):
        target = RecordTarget(
            paths, uri, config.tracking.experiment, name, config.train.steps, parent_run_id, dict(tags or {})
        )
        return _train(config, target, console, tell)


def _train(config: RunConfig, target: RecordTarget, console: Console, tell: Callable[[str], None]) -> TrainResult:
    paths = target.paths
    job = prepare_job(config, paths)
    finished = _finished(paths, config)
    if finished is not None:
        logs.say(console, paths.name, f"is finished already: {finished['step']} steps", event="start")
        return _result(target)
    announce_start(job, paths, console)
    with driving(paths):
        if config.scale.num_workers:
            cluster.connect(config.scale)
            cluster.require_cpus(config.scale)
        with recording(target, job) as record:
            with follow(paths, console):
                _run(job, config, record, tell)
            ended = _ended(paths)
            if ended is not None and ended["state"] == "stopped":
                raise RunStopped(ended["step"])
            result = _result(target)
            _conclude(record.wait(), result, config.loss.name, "finished" if ended is None else ended["state"])
    return result


def prepare_job(config: RunConfig, paths: RunPaths) -> Assignment:
    """Everything that can be settled before anything starts: the corpus, the starting state, the run's identity."""
    check_freeze(config)
    corpus = open_corpus(config)
    state = None if config.start.checkpoint is None else starting_state(config.start.checkpoint, config, paths)
    claim(paths, config, {"corpus": corpus.fingerprint, "starting state": state.state_hash if state else None})
    settings = settled(config, corpus, paths)
    if state is None:
        return Assignment(settings, str(paths.where), None)
    return Assignment(settings, str(paths.where), state.path, state.origin)


def open_corpus(config: RunConfig) -> Corpus:
    """The corpus of a run, which it can be trained on.

    Raises:
        OrchestratorError: it cannot.
    """
    if config.data.path is None:
        raise ConfigError(["`data.path` is required, but missing"], hint="give the folder that `prepare` wrote")
    corpus = Corpus.open(os.path.expanduser(config.data.path), config.data.cache)
    check_fits(corpus, config.model)
    for split in ("train", "val"):
        if not corpus.clips(split):  # type: ignore[arg-type]
            raise RunError(
                f"the corpus {corpus.name} has no clip in its {split} split",
                hint="prepare clips of at least two speakers",
            )
    return corpus


def starting_state(checkpoint: str, config: RunConfig, paths: RunPaths) -> StartingState:
    """The normalized form of what a person gave to start from."""
    normalized = normalize(checkpoint, paths.states, model_config=config.model)
    origin = {**normalized.report.to_dict(), "history": read_plain(normalized.location)["history"]}
    return StartingState(normalized.location, normalized.state_hash, origin)


def settled(config: RunConfig, corpus: Corpus, paths: RunPaths) -> dict[str, Any]:
    """A configuration as plain data, with places that mean the same on every node."""
    settings = config.model_dump(mode="json")
    settings["data"]["path"], settings["storage"] = corpus.folder.uri, paths.home or str(paths.storage)
    if config.data.cache is not None:
        settings["data"]["cache"] = str(Path(config.data.cache).expanduser().resolve())
    return settings


def announce_start(job: Assignment, paths: RunPaths, console: Console) -> None:
    """Say in one line what is about to happen."""
    saved = checkpoints_in(paths.where)
    if saved:
        text = f"continues from {name_of(saved[-1])}"
    elif job.start_state is not None:
        text = f"{job.config['start']['verb']} from {redacted(job.config['start']['checkpoint'])}"
    else:
        text = "starts from scratch"
    logs.say(console, paths.name, text, event="start")


def tracking_uri(config: RunConfig) -> str:
    """The tracking store of a configuration."""
    return resolve_uri(config.tracking.uri, config.storage, os.environ)


@contextmanager
def recording(target: RecordTarget, job: Assignment) -> Iterator[OpeningRecord]:
    """Open the MLflow run with its params and provenance; close it with the truth about how the block ended."""
    recorder = Recorder(target)
    recorder.running(ended=None)
    with described(recorder), ThreadPoolExecutor(1, thread_name_prefix="record") as pool:
        record = OpeningRecord(recorder, pool.submit(_open, recorder, job))
        try:
            yield record
        except BaseException as error:
            try:
                _end_with(error, record)
            except REFUSALS as refusal:  # what ended the run is what a person has to know
                error.add_note(f"besides, the record could not be closed: {refusal}")
            raise


def _end_with(error: BaseException, record: OpeningRecord) -> None:
    """Record that a run was ended by an error."""
    if record.opened.exception() is not None:
        record.recorder.refused(str(error))
    # Ray answers SIGTERM with an exit when nobody else does
    elif isinstance(error, (RunStopped, KeyboardInterrupt, SystemExit)):
        record.recorder.end("stopped")
    else:
        record.recorder.end("failed", error=str(error))


def _open(recorder: Recorder, job: Assignment) -> None:
    close_stale(recorder.target.uri, recorder.target.experiment)
    recorder.begin(job.config, job.origin)
    describe_run(recorder)


def _run(job: Assignment, config: RunConfig, record: OpeningRecord, tell: Callable[[str], None]) -> None:
    file = StopFile(record.recorder.target.paths.folder)
    if config.scale.num_workers:  # which take seconds to start, as the record does
        with stoppable(file, tell):
            execute.run_on_ray(job, record, tell=tell)
        return
    recorder = record.wait()
    with stoppable(file, tell):
        execute.run_here(job, recorder, stop_requested=file.asked, tell=tell)


def _finished(paths: RunPaths, config: RunConfig) -> dict[str, Any] | None:
    """The status of a run that has nothing left to do: it took its last step, or stopped by one of its own rules."""
    status = read_json(paths.status) or {}
    done = status.get("state") == "finished" and status["step"] >= config.train.steps
    return status if done or status.get("state") == "stopped early" else None


def _ended(paths: RunPaths) -> dict[str, Any] | None:
    """Why the run left before its last step; none when it did not."""
    return (read_json(paths.status) or {}).get("ended")


def _result(target: RecordTarget) -> TrainResult:
    paths = target.paths
    status, saved = read_json(paths.status), checkpoints_in(paths.where)
    if status is None or not saved:
        raise RunError(f"the run {paths.name!r} left no checkpoint in {redacted(paths.where)}")
    latest = read_plain(saved[-1])
    best = latest["best"]
    history = read_history(target.uri, status["run_id"], [best["metric"]])
    at_start = [row[best["metric"]] for row in history if row["step"] == 0]
    return TrainResult(
        name=paths.name,
        folder=paths.where,
        start=status["start"],
        step=latest["step"],
        baseline=at_start[0] if at_start else None,
        best=best["value"],
        best_step=best["step"],
        best_checkpoint=best_of(saved, best["metric"]),
        metrics=status["metrics"],
        run_id=status["run_id"],
        tracking_uri=target.uri,
        verdict=status.get("verdict") or {},
        ended=(status.get("ended") or {}).get("why"),
    )


def _conclude(recorder: Recorder, result: TrainResult, loss: str, state: str) -> None:
    """Charts and the best weights into MLflow; then the run has ended in this state."""
    writer = recorder.writer
    log_charts(writer, recorder.target.uri, loss)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "best_weights.safetensors"
        export(result.best_checkpoint, "safetensors", file)
        writer.log_file(file, "model")
    writer.log_dict({"best": result.best, "step": result.best_step, "baseline": result.baseline}, "summary.json")
    recorder.end(state)


def log_charts(writer: RunWriter, uri: str, loss: str) -> None:
    """The loss and accuracy charts of a run, as pictures, from what was recorded of it."""
    history = read_history(uri, writer.run_id, ["train/loss", "val/loss", "val/accuracy", "val/auc"])
    writer.log_figure(loss_chart(history, trained_on=loss), "charts/loss.png")
    writer.log_figure(accuracy_chart(history), "charts/accuracy.png")
