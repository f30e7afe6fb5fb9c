"""Running the training loop: in this process with one worker, or on Ray with several.

Both ways write the same checkpoints into the same folder and the same record, so that a run can even change from one
to the other between two starts.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ray.exceptions import RayActorError, RaySystemError
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.config import FailureConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError

from orchestrator.config.schema import RunConfig
from orchestrator.errors import OrchestratorError, RunError
from orchestrator.runtime import cluster
from orchestrator.runtime.failures import FailureCallback, deliberate, first_line, last_line
from orchestrator.runtime.group import GroupConfig
from orchestrator.runtime.home import copy_of
from orchestrator.runtime.journal import Journal
from orchestrator.runtime.listener import Listener
from orchestrator.runtime.paths import JOURNAL, STUCK, RunPaths
from orchestrator.runtime.recorder import OpeningRecord, Recorder
from orchestrator.runtime.stopping import StopFile, seldom
from orchestrator.runtime.supervise import gone, wait_for
from orchestrator.runtime.usage import Usage
from orchestrator.runtime.worker import Assignment, train_worker
from orchestrator.storage import join


def run_here(
    assignment: Assignment,
    recorder: Recorder,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda _: None,
    device: torch.device | None = None,
) -> None:
    """Run the loop in this process, and record it.

    Args:
        assignment: what to train.
        recorder: records what happens.
        stop_requested: whether somebody asks the run to stop.
        tell: says what a person should know meanwhile, in one line each.
        device: where to compute; a GPU if there is one and the configuration does not refuse it.
    """
    patience_s = assignment.settings().checkpoint.retry_s
    listener = Listener(recorder, patience_s=patience_s, tell=tell)

    def asked() -> bool:
        listener.look()
        return stop_requested()

    try:
        loop_here(assignment, said=listener.look, stop_requested=seldom(asked), tell=tell, device=device)
    finally:
        listener.look()
    listener.finish()


def loop_here(
    assignment: Assignment,
    *,
    said: Callable[[], object] = lambda: None,
    on_report: Callable[[Mapping[str, float]], None] = lambda _: None,
    stop_requested: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda _: None,
    device: torch.device | None = None,
) -> None:
    """Run the loop in this process; what happens is written into the run's journal, and recorded by somebody else.

    Args:
        assignment: what to train.
        said: called when there is something new in the journal.
        on_report: hears the figures, afterwards.
        stop_requested: whether somebody asks the run to stop.
        tell: says what a person should know meanwhile, in one line each.
        device: where to compute; a GPU if there is one and the configuration does not refuse it.
    """
    # a driver that starts workers starts sooner without the loop
    from orchestrator.training.local import LocalContext
    from orchestrator.training.loop import train_loop

    config, paths = assignment.settings(), RunPaths.at(assignment.run_folder)
    journal, corpus = Journal(paths.journal, keep=copy_of(paths).flush), assignment.corpus(config)
    device = device or _local_device(config)
    usage = Usage(device)

    def note(text: str) -> None:  # from the thread that writes checkpoints too, where nothing may be recorded
        tell(text)
        journal.append(note=text)

    def reported(metrics: Mapping[str, float]) -> None:
        journal.append(figures=usage.beside(metrics, context.saver.figures()))
        said()
        on_report(metrics)

    def announced(facts: Mapping[str, Any]) -> None:
        journal.append(facts=dict(facts))
        for text in facts.get("notes", ()):
            tell(text)
        said()

    context = LocalContext(
        paths.where,
        settings=config.checkpoint,
        on_report=reported,
        on_announce=announced,
        tell=note,
        before_save=journal.sync,
        stop_requested=stop_requested,
        until=assignment.until,
        device=device,
    )
    train_loop(config, corpus, context, assignment.given, pairs=assignment.pair_list(config, corpus))
    journal.sync()  # whoever listens may be on another machine


def run_on_ray(assignment: Assignment, record: OpeningRecord, *, tell: Callable[[str], None] = lambda _: None) -> None:
    """Run the loop on `scale.num_workers` Ray Train workers, recovering from their failures, and record it.

    Args:
        assignment: what to train.
        record: records what happens; what keeps it from being opened ends the run.
        tell: says what a person should know meanwhile, in one line each.

    Raises:
        OrchestratorError: the error a worker raised on purpose, or a `RunError` with the cause of the failure.
    """
    patience_s = assignment.settings().checkpoint.retry_s
    listener = Listener(record.recorder, patience_s=patience_s, tell=tell, on_note=tell)

    def look() -> None:
        if record.is_open():
            listener.look()

    def last_note() -> str | None:
        record.wait()
        listener.look()
        return listener.last_note

    group_on_ray(assignment, look, last_note)
    record.wait()
    copy_of(RunPaths.at(assignment.run_folder)).fetch()
    listener.finish()


def group_on_ray(
    assignment: Assignment, look: Callable[[], object], last_note: Callable[[], str | None] = lambda: None
) -> None:
    """Run the loop on `scale.num_workers` Ray Train workers, which write into the run's journal.

    Args:
        assignment: what to train.
        look: called about twice a second meanwhile.
        last_note: what was noted last, asked after a failure.

    Raises:
        OrchestratorError: as `run_on_ray`.
    """
    paths = RunPaths.at(assignment.run_folder)
    copy_of(paths).follow(JOURNAL)
    copy_of(paths).flush()  # what asked an earlier start to stop is done with before anybody looks
    alone = threading.current_thread() is threading.main_thread()  # else there may be other runs in this job
    try:
        wait_for(lambda: _fit(assignment, paths, alone=alone), look)
    except TrainingFailedError as error:
        raise _cause(error, last_note()) from error
    except BaseException:
        StopFile(paths.folder).ask()  # nobody listens any more to what may still run
        raise


def _fit(assignment: Assignment, paths: RunPaths, *, alone: bool) -> None:
    """Ray starts workers again, but not the controller that watches over them: that is done here."""
    limit = assignment.settings().scale.max_failures
    deaths, held = 0, cluster.reservations()
    while True:
        try:
            _trainer(assignment, paths, tidies=not alone).fit()
            return
        except RayActorError as error:
            deaths += 1
            if 0 <= limit < deaths or error.actor_init_failed:
                raise RunError(f"Ray Train's controller died: {last_line(error)}", hint=_AGAIN) from error
            Journal(paths.failures).append(
                note="Ray Train's controller died; a new one continues from the latest checkpoint"
            )
            if alone:
                cluster.release(cluster.reservations() - held)
        except RaySystemError as error:
            raise gone(first_line(error)) from error


class _Trainer(TorchTrainer):
    """Without Ray Data's actor, which would do nothing here."""

    idle: tuple[type, ...] = (DatasetsCallback,)

    def _create_default_callbacks(self) -> list[Any]:
        every = super()._create_default_callbacks()  # type: ignore[misc]  # of the second of two classes of this name
        return [callback for callback in every if not isinstance(callback, self.idle)]


class _UntidyTrainer(_Trainer):
    """Nor with the actor that gives back what a dead controller held: `_fit` does it, and else the end of that Ray."""

    idle = (DatasetsCallback, PlacementGroupCleanerCallback)


def _trainer(assignment: Assignment, paths: RunPaths, *, tidies: bool) -> TorchTrainer:
    config = assignment.settings()
    scale = config.scale
    cluster.look_often(scale)
    kind = _Trainer if tidies or not cluster.is_own() else _UntidyTrainer
    return kind(
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
            storage_path=str(paths.folder),
            failure_config=FailureConfig(max_failures=scale.max_failures, max_preemption_failures=-1),
            callbacks=[FailureCallback(paths.failures, paths.folder / STUCK, _stuck_at(paths))],  # type: ignore[list-item]
        ),
    )


def _stuck_at(paths: RunPaths) -> str | None:
    return join(paths.where, STUCK) if paths.home else None


def _resources(config: RunConfig) -> dict[str, float]:
    resources = {"CPU": config.scale.cpus_per_worker}
    return resources | ({"GPU": 1.0} if cluster.wants_gpu(config.scale) else {})


def _local_device(config: RunConfig) -> torch.device:
    return torch.device("cuda" if config.scale.use_gpu is not False and torch.cuda.is_available() else "cpu")


def _cause(error: TrainingFailedError, note: str | None) -> OrchestratorError:
    """The deliberate error behind a failed group, if there is one; its own message otherwise."""
    failures = [*getattr(error, "worker_failures", {}).values(), getattr(error, "controller_failure", None)]
    for failure in failures:
        if (wanted := deliberate(failure)) is not None:
            return wanted
    what = f"training failed on its workers: {last_line(error)}"
    return RunError(f"{what}; the last note says: {note}" if note else what, hint=_AGAIN)


_AGAIN = (
    "give the same command again to continue from the last checkpoint; the workers' full log is under "
    "/tmp/ray/session_latest/logs/train"
)
_LATER_S = 10.0
"""Seconds that a collective operation waits longer than a watchdog, which knows more."""
