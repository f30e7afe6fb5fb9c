"""The only file of this room that knows Ray: canonical directories as `ray.train.Checkpoint` and back.

Why a check: Ray copies files straight into the final folder, so a half-uploaded checkpoint looks whole to it. Ours is
whole when its manifest, written last, is there and every file has its size.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.checkpoint.directory import is_complete, read_manifest, read_state
from orchestrator.checkpoint.state import TrainState
from orchestrator.checkpoint.storage import Place, fetch, is_whole
from orchestrator.errors import CheckpointError, RefusalReason

if TYPE_CHECKING:
    from ray.train import Checkpoint


def to_ray_checkpoint(directory: str | Path) -> Checkpoint:
    """A canonical directory as what `ray.train.report(checkpoint=...)` takes.

    Raises:
        CheckpointError: the directory is not complete.
    """
    from ray.train import Checkpoint

    read_manifest(directory)
    if not is_complete(directory):
        raise _incomplete(str(directory))
    return Checkpoint.from_directory(str(directory))


def state_from_ray_checkpoint(checkpoint: Checkpoint, *, verify: bool = True) -> TrainState:
    """Read the state in a Ray checkpoint, on this machine or in remote storage.

    Raises:
        CheckpointError: it is not there, not complete or damaged.
    """
    place = _place(checkpoint)
    if not is_whole(place):
        raise _incomplete(checkpoint.path)
    if place.filesystem.type_name == "local":
        return read_state(checkpoint.path, verify=verify)
    with tempfile.TemporaryDirectory(prefix="syncnet-fetch-") as folder:
        return read_state(fetch(place, Path(folder)), verify=verify)


def is_complete_ray_checkpoint(checkpoint: Checkpoint) -> bool:
    """Whether every file that the manifest lists is in the checkpoint's storage with its size. Fetches the manifest
    only."""
    return is_whole(_place(checkpoint))


def _place(checkpoint: Checkpoint) -> Place:
    """Where a checkpoint is; Ray fills in the file system whenever it makes one."""
    return Place(checkpoint.filesystem, checkpoint.path, checkpoint.path)


def _incomplete(path: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a complete checkpoint: its manifest is missing, or files are shorter than it says",
        reason=RefusalReason.CORRUPT,
        path=path,
        hint="use an earlier checkpoint of the run",
    )
