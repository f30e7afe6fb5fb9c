"""The loop's surroundings without Ray: one worker, checkpoints in a folder.

Used by single-worker runs, by sweep trials and by tests. Figures are heard at once, in the loop's own thread;
checkpoints are written by the `Saver`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from orchestrator.checkpoint import TrainState
from orchestrator.config.schema import CheckpointConfig
from orchestrator.storage import Location
from orchestrator.training.context import Request
from orchestrator.training.saver import Saver, latest_undamaged

Metrics = Mapping[str, float]


class LocalContext:
    """A `TrainContext` of one worker.

    Args:
        folder: where this run's checkpoints lie: a path or a URI.
        settings: when to save and what to keep.
        on_report: receives the metrics of every report.
        on_announce: receives the facts of the start, verdicts, scores, and why the run ended.
        tell: says one line to a person; also called in the background thread that writes checkpoints.
        before_save: makes safe what must not be lost when a checkpoint is there; called in that thread.
        stop_requested: whether somebody asks the run to stop; the loop saves a checkpoint and leaves.
        until: the step after which it does so unasked, if that is before the last one.
        device: where to compute.
    """

    rank = 0
    world_size = 1

    def __init__(
        self,
        folder: Location,
        *,
        settings: CheckpointConfig,
        on_report: Callable[[Metrics], None],
        on_announce: Callable[[Mapping[str, object]], None],
        tell: Callable[[str], None],
        before_save: Callable[[], None] = lambda: None,
        stop_requested: Callable[[], bool] = lambda: False,
        until: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.folder = folder
        self.device = device or torch.device("cpu")
        self.saver = Saver(folder, settings=settings, tell=tell, first=before_save)
        self._on_report, self._on_announce = on_report, on_announce
        self._stop_requested, self._tell, self._until = stop_requested, tell, until

    def latest(self) -> TrainState | None:
        return latest_undamaged(self.folder, self._tell)

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        return model

    def announce(self, facts: Mapping[str, object]) -> None:
        self._on_announce(facts)

    def report(self, metrics: Metrics) -> None:
        self._on_report(metrics)

    def save(self, state: TrainState) -> None:
        self.saver.save(state)

    def poll(self, step: int) -> Request:
        stop = self._stop_requested() or (self._until is not None and step >= self._until)
        return Request(save=stop or self.saver.overdue, stop=stop)

    def alive(self) -> None:
        pass

    def finish(self) -> None:
        self.saver.wait()
