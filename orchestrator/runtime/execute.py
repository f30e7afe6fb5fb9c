"""Running the training loop: in this process with one worker, or on Ray with several.

Both ways write the same checkpoints into the same folder and the same record, so that a run can even change from one
to the other between two starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ray.train import CheckpointConfig, FailureConfig, ScalingConfig, UserCallback
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from orchestrator.config.schema import RunConfig
from orchestrator.errors import OrchestratorError, RunError
from orchestrator.runtime import cluster
from orchestrator.runtime.recorder import Recorder
from orchestrator.runtime.worker import ANNOUNCEMENT, RETENTION, Assignment, train_worker
from orchestrator.training.local import LocalContext
from orchestrator.training.loop import train_loop


def run_here(
    assignment: Assignment,
    recorder: Recorder,
    *,
    on_report: Callable[[Mapping[str, float]], None] | None = None,
    device: torch.device | None = None,
) -> None:
    """Run the loop in this process.

    Args:
        assignment: what to train.
        recorder: hears the reports.
        on_report: hears them too, afterwards.
        device: where to compute; a GPU if there is one and the configuration does not refuse it.
    """
    config = assignment.settings()

    def heard(metrics: Mapping[str, float], _: Path | None) -> None:
        recorder.report(metrics)
        if on_report is not None:
            on_report(metrics)

    context = LocalContext(
        Path(assignment.run_folder),
        on_report=heard,
        on_start=recorder.started,
        keep=config.checkpoint.keep,
        metric=config.checkpoint.metric,
        device=device or _local_device(config),
    )
    train_loop(config, assignment.corpus(config), context, assignment.given)


def run_on_ray(assignment: Assignment, recorder: Recorder, callbacks: Sequence[UserCallback] = ()) -> None:
    """Run the loop on `scale.num_workers` Ray Train workers, recovering from their failures.

    Raises:
        OrchestratorError: the error a worker raised on purpose, or a `RunError` with the cause of the failure.
    """
    config = assignment.settings()
    folder = Path(assignment.run_folder)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"assignment": assignment},
        scaling_config=ScalingConfig(
            num_workers=config.scale.num_workers,
            use_gpu=cluster.wants_gpu(config.scale),
            resources_per_worker=_resources(config),
        ),
        run_config=RayRunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=config.scale.max_failures),
            checkpoint_config=CheckpointConfig(
                num_to_keep=config.checkpoint.keep,
                checkpoint_score_attribute=RETENTION,
                checkpoint_score_order="max",
            ),
            callbacks=[RecorderCallback(recorder), *callbacks],  # type: ignore[list-item]
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise _cause(error) from error


class RecorderCallback(UserCallback):
    """Passes the reports that Ray Train's controller hears on to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        figures = dict(metrics[0])
        figures.pop(RETENTION, None)
        if ANNOUNCEMENT in figures:
            self.recorder.started(figures[ANNOUNCEMENT])
        else:
            self.recorder.report(figures)


def _resources(config: RunConfig) -> dict[str, float]:
    resources = {"CPU": config.scale.cpus_per_worker}
    return resources | ({"GPU": 1.0} if cluster.wants_gpu(config.scale) else {})


def _local_device(config: RunConfig) -> torch.device:
    return torch.device("cuda" if config.scale.use_gpu is not False and torch.cuda.is_available() else "cpu")


def _cause(error: TrainingFailedError) -> OrchestratorError:
    """The deliberate error behind a failed group, if there is one; its own message otherwise."""
    failures = getattr(error, "worker_failures", {})
    for rank in sorted(failures):
        inner: BaseException | None = failures[rank]
        while inner is not None:
            if isinstance(inner, OrchestratorError):
                return inner
            inner = inner.__cause__ or getattr(inner, "cause", None)
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return RunError(
        f"training failed on its workers: {lines[-1] if lines else type(error).__name__}",
        hint="give the same command again to continue from the last checkpoint; the workers' full log is under "
        "/tmp/ray/session_latest/logs",
    )
