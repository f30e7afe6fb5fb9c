"""The checkpoints in a run's folder, on this machine or in object storage: their names, and which of them may go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from orchestrator.checkpoint import is_complete, read_plain, shelf
from orchestrator.storage import Location
from orchestrator.training.metrics import score

_PREFIX = "step-"


def checkpoint_folder(run_folder: Location, step: int) -> Location:
    """Where a run keeps the checkpoint of an optimizer step; names sort by step."""
    return shelf.inside(run_folder, f"{_PREFIX}{step:09d}")


def step_of(folder: Location) -> int:
    """The optimizer step of a checkpoint, by its folder's name."""
    return int(shelf.name_of(folder).removeprefix(_PREFIX))


def folders_in(run_folder: Location) -> list[Location]:
    """Every folder that has the name of a checkpoint, whole or not, oldest first."""
    named = [name for name in shelf.subfolders(run_folder) if name.startswith(_PREFIX)]
    found = (shelf.inside(run_folder, name) for name in named if name.removeprefix(_PREFIX).isdigit())
    return sorted(found, key=step_of)


def checkpoints_in(folder: Location) -> list[Location]:
    """The whole checkpoints of a run's folder, oldest first."""
    return [path for path in folders_in(folder) if is_complete(path)]


def checkpoint_score(path: Location, metric: str) -> float | None:
    """The figure a checkpoint was saved with, higher is better; none when it was not validated at that step.

    Raises:
        CheckpointError: it is damaged or gone.
    """
    value = read_plain(path)["progress"].get("metrics", {}).get(metric)
    return None if value is None or math.isnan(value) else score(metric, float(value))


def best_of(saved: Sequence[Location], metric: str) -> Location:
    """The best checkpoint of those that are there, on a tie the earlier; the last where none was validated.

    A run's best validation may have none: its storage had refused it, or it was damaged later.

    Args:
        saved: at least one, oldest first.
        metric: `val/...`.

    Raises:
        CheckpointError: one is damaged or gone.
    """
    scores = {path: score for path in saved if (score := checkpoint_score(path, metric)) is not None}
    return max(scores, key=lambda path: scores[path]) if scores else saved[-1]


def stale(
    saved: Sequence[Location], scores: Mapping[Location, float | None], keep: int, keep_every: int = 0
) -> list[Location]:
    """Which checkpoints to delete: all but the `keep` best, the last, and those of every `keep_every` steps. Pure.

    Args:
        saved: the checkpoints, oldest first.
        scores: the figure of each, higher is better; none where there is none.
        keep: how many of the best stay; on a tie the earlier stays.
        keep_every: those whose step is a multiple of it stay, step 0 not for that reason; 0 keeps none for its step.
    """
    scored = [path for path in saved if scores[path] is not None]
    kept = {*sorted(scored, key=lambda path: -(scores[path] or 0.0))[:keep], *saved[-1:]}
    if keep_every:
        kept |= {path for path in saved if step_of(path) > 0 and step_of(path) % keep_every == 0}
    return [path for path in saved if path not in kept]
