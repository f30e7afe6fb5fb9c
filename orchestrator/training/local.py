"""The loop's surroundings without Ray: one worker, checkpoints in a folder.

A checkpoint is written beside its final place and renamed, so that a folder named `step-...` is always whole; the
best and the last are kept. Used by single-worker runs, by sweep trials and by tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from orchestrator.checkpoint import TrainState, is_complete, read_plain, read_state, save_state
from orchestrator.training.metrics import score

Metrics = Mapping[str, float]


class LocalContext:
    """A `TrainContext` of one worker.

    Args:
        folder: where this run's checkpoints lie.
        on_report: receives the metrics of every report, after the checkpoint of that report is safe.
        on_start: receives the facts of the start.
        keep: how many of the best checkpoints to keep, besides the last.
        metric: which reported figure makes a checkpoint the best.
        device: where to compute.
    """

    rank = 0
    world_size = 1

    def __init__(
        self,
        folder: Path,
        *,
        on_report: Callable[[Metrics, Path | None], None],
        on_start: Callable[[Mapping[str, object]], None],
        keep: int = 2,
        metric: str = "val/accuracy",
        device: torch.device | None = None,
    ) -> None:
        self.folder = folder
        self.device = device or torch.device("cpu")
        self._on_report, self._on_start = on_report, on_start
        self._keep, self._metric = keep, metric

    def latest(self) -> TrainState | None:
        saved = checkpoints_in(self.folder)
        return read_state(saved[-1]) if saved else None

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        return model

    def announce(self, facts: Mapping[str, object]) -> None:
        self._on_start(facts)

    def report(self, metrics: Metrics, state: TrainState | None) -> None:
        folder = None
        if state is not None:
            folder = save_once(state, self.folder)
            self._drop_stale()
        self._on_report(metrics, folder)

    def _drop_stale(self) -> None:
        saved = checkpoints_in(self.folder)
        scores = {path: checkpoint_score(path, self._metric) for path in saved}
        for path in stale(saved, scores, self._keep):
            shutil.rmtree(path)


def checkpoint_folder(run_folder: Path, step: int) -> Path:
    """Where a run keeps the checkpoint of an optimizer step; names sort by step."""
    return run_folder / f"step-{step:09d}"


def save_once(state: TrainState, run_folder: Path) -> Path:
    """Save a run's checkpoint and give its folder.

    One that is whole already was saved before a crash that came before anybody heard of it, and is equal because runs
    are exact.
    """
    folder = checkpoint_folder(run_folder, state.step)
    if not is_complete(folder):
        save_state(state, folder)
    return folder


def checkpoints_in(folder: Path) -> list[Path]:
    """The whole checkpoints of a run's folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if is_complete(path))


def checkpoint_score(path: Path, metric: str) -> float | None:
    """The figure a checkpoint was saved with, higher is better; none when it was not validated at that step."""
    value = read_plain(path)["progress"].get("metrics", {}).get(metric)
    return None if value is None else score(metric, float(value))


def stale(saved: list[Path], scores: Mapping[Path, float | None], keep: int) -> list[Path]:
    """Which checkpoints to delete: all but the `keep` best and the last; on a tie the earlier stays. Pure."""
    scored = [path for path in saved if scores[path] is not None]
    best = sorted(scored, key=lambda path: -(scores[path] or 0.0))[:keep]
    return [path for path in saved[:-1] if path not in best]
