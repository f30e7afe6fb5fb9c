"""Running the training loop: in this process with one worker, or on Ray with several.

Both ways write the same checkpoints into the same folder and the same record, so that a run can even change from one
to the other between two starts.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from ray.exceptions import RayActorError, RaySystemError
from ray.train import RunConfig as RayRunConfig
from ray.train import UserCallback
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2.api.config import FailureConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError

from orchestrator.config.schema import RunConfig
from orchestrator.errors import OrchestratorError, RunError
from orchestrator.runtime import cluster
from orchestrator.runtime.courier import ROWS
from orchestrator.runtime.group import GroupConfig
from orchestrator.runtime.paths import STUCK, read_json
from orchestrator.runtime.recorder import Recorder
from orchestrator.runtime.stopping import seldom
from orchestrator.runtime.supervise import gone, wait_for
from orchestrator.runtime.watchdog import explain
from orchestrator.runtime.worker import Assignment, train_worker


def run_here(
    assignment: Assignment,
    recorder: Recorder,
    *,
    on_report: Callable[[Mapping[str, float]], None] | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda _: None,
    device: torch.device | None = None,
) -> None:
    """Run the loop in this process.

    Args:
        assignment: what to train.
        recorder: hears the reports.
        on_report: hears them too, afterwards.
        stop_requested: whether somebody asks the run to stop.
        tell: says what a person should know meanwhile, in one line each.
        device: where to compute; a GPU if there is one and the configuration does not refuse it.
    """
    # a driver, and Ray Train's controller, which loads this module too, start sooner without the loop
    from orchestrator.training.local import LocalContext
    from orchestrator.training.loop import train_loop

    config = assignment.settings()
    notes: SimpleQueue[str] = SimpleQueue()

    def note(text: str) -> None:  # from the thread that writes checkpoints too, where nothing may be recorded
        tell(text)
        notes.put(text)

    def heard(metrics: Mapping[str, float]) -> None:
        recorder.report(metrics)
        while not notes.empty():
            recorder.note(notes.get())
        if on_report is not None:
            on_report(metrics)

    def announced(facts: Mapping[str, Any]) -> None:
        recorder.announced(facts)
        for text in facts.get("notes", ()):
            tell(text)

    context = LocalContext(
        Path(assignment.run_folder),
        settings=config.checkpoint,
        on_report=heard,
        on_announce=announced,
        tell=note,
        stop_requested=seldom(stop_requested),
        device=device or _local_device(config),
    )
    train_loop(config, assignment.corpus(config), context, assignment.given)


def run_on_ray(
    assignment: Assignment,
    recorder: Recorder,
    callbacks: Sequence[UserCallback] = (),
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Run the loop on `scale.num_workers` Ray Train workers, recovering from their failures.

    Args:
        assignment: what to train.
        recorder: hears the reports, on Ray Train's controller.
        callbacks: hear them too, afterwards.
        tell: says what a person should know meanwhile, in one line each.

    Raises:
        OrchestratorError: the error a worker raised on purpose, or a `RunError` with the cause of the failure.
    """
    limit = assignment.settings().scale.max_failures
    notes = _Notes(recorder, tell)
    deaths, held = 0, cluster.reservations()
    while True:
        try:
            wait_for(lambda: _trainer(assignment, recorder, callbacks).fit(), notes.tell_new)
            return
        except TrainingFailedError as error:
            raise _cause(error, notes.latest()) from error
        except RayActorError as error:
            # Ray starts workers again, but not the controller that watches over them
            deaths += 1
            if 0 <= limit < deaths or error.actor_init_failed:
                raise RunError(f"Ray Train's controller died: {_last_line(error)}", hint=_AGAIN) from error
            recorder.note("Ray Train's controller died; a new one continues from the latest checkpoint")
            if threading.current_thread() is threading.main_thread():  # else there may be other runs in this job
                cluster.release(cluster.reservations() - held)
        except RaySystemError as error:
            raise gone(_first_line(error)) from error
        finally:
            notes.tell_new()


class RecorderCallback(UserCallback):
    """On Ray Train's controller: passes what rank 0 sends on to a recorder, and judges what workers fail with."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._ranks = 0

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self._ranks = len(metrics)
        self.recorder.hear(metrics[0][ROWS])

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Note who failed, or was stuck; Ray Train then starts all workers again, or gives up.

        Raises:
            OrchestratorError: what a worker raised on purpose would be raised again: Ray Train starts workers again
                after an error of theirs, but ends the run at once after one of this callback.
        """
        for rank in sorted(worker_exceptions):
            if (deliberate := _deliberate(worker_exceptions[rank])) is not None:
                raise deliberate
        ranks = range(max(self._ranks, *(rank + 1 for rank in worker_exceptions)))
        stuck = explain(self.recorder.target.paths.folder / STUCK, ranks)
        failed = (f"rank {rank} failed: {_what(error)}" for rank, error in sorted(worker_exceptions.items()))
        self.recorder.note(stuck or "; ".join(failed))


class _Notes:
    """Tells the notes of a run's record, each once, as they come."""

    def __init__(self, recorder: Recorder, tell: Callable[[str], None]) -> None:
        self._status, self._tell = recorder.target.paths.status, tell
        self._began = self._told = time.time()

    def tell_new(self) -> None:
        for note in self._all():
            if note["at"] > self._told:
                self._told = note["at"]
                self._tell(note["text"])

    def latest(self) -> str | None:
        """The last note since the start."""
        return next((note["text"] for note in reversed(self._all()) if note["at"] > self._began), None)

    def _all(self) -> list[dict[str, Any]]:
        return (read_json(self._status) or {}).get("notes", [])


class _Trainer(TorchTrainer):
    """Without Ray Data, of which nothing is used and for which Ray Train would start an actor."""

    def _create_default_callbacks(self) -> list[Any]:
        every = super()._create_default_callbacks()  # type: ignore[misc]  # of the second of two classes of this name
        return [callback for callback in every if not isinstance(callback, DatasetsCallback)]


def _trainer(assignment: Assignment, recorder: Recorder, callbacks: Sequence[UserCallback]) -> TorchTrainer:
    config = assignment.settings()
    scale = config.scale
    cluster.look_often(scale)
    return _Trainer(
        train_worker,
        train_loop_config={"assignment": assignment},
        torch_config=GroupConfig(timeout_s=math.ceil(scale.stuck_after_s + _LATER_S)),
        scaling_config=ScalingConfig(
            num_workers=scale.num_workers if scale.min_workers is None else (scale.min_workers, scale.num_workers),
            elastic_resize_monitor_interval_s=scale.resize_s,
            use_gpu=cluster.wants_gpu(scale),
            resources_per_worker=_resources(config),
        ),
        run_config=RayRunConfig(
            # its own place: what earlier versions of a run had registered with Ray Train does not matter
            name="ray",
            storage_path=assignment.run_folder,
            failure_config=FailureConfig(max_failures=scale.max_failures, max_preemption_failures=-1),
            callbacks=[RecorderCallback(recorder), *callbacks],  # type: ignore[list-item]
        ),
    )


def _resources(config: RunConfig) -> dict[str, float]:
    resources = {"CPU": config.scale.cpus_per_worker}
    return resources | ({"GPU": 1.0} if cluster.wants_gpu(config.scale) else {})


def _local_device(config: RunConfig) -> torch.device:
    return torch.device("cuda" if config.scale.use_gpu is not False and torch.cuda.is_available() else "cpu")


def _cause(error: TrainingFailedError, note: str | None) -> OrchestratorError:
    """The deliberate error behind a failed group, if there is one; its own message otherwise."""
    failures = [*getattr(error, "worker_failures", {}).values(), getattr(error, "controller_failure", None)]
    for failure in failures:
        if (deliberate := _deliberate(failure)) is not None:
            return deliberate
    what = f"training failed on its workers: {_last_line(error)}"
    return RunError(f"{what}; the last note says: {note}" if note else what, hint=_AGAIN)


def _deliberate(error: BaseException | None) -> OrchestratorError | None:
    """The error that was raised on purpose behind another one; none if there is none."""
    while error is not None:
        if isinstance(error, OrchestratorError):
            return error
        error = error.__cause__ or getattr(error, "cause", None)
    return None


def _what(error: Exception) -> str:
    """What a worker failed with, in a line."""
    if getattr(error, "health_check_failure", None) is not None:  # Ray's name for a worker that does not answer
        return "its process died"
    return f"{type(error).__name__}: {_first_line(error)}"[:200]


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_line(error: BaseException) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


_AGAIN = (
    "give the same command again to continue from the last checkpoint; the workers' full log is under "
    "/tmp/ray/session_latest/logs/train"
)
_LATER_S = 10.0
"""Seconds that a collective operation waits longer than a watchdog, which knows more."""
