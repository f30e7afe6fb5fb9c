"""The only file of this room that knows Ray: canonical directories as `ray.train.Checkpoint` and back.

Why a check: Ray copies files straight into the final folder, so a half-uploaded checkpoint looks whole to it. Ours is
whole when its manifest, written last, is there and every file has its size.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from orchestrator.checkpoint.directory import is_complete, read_manifest, read_state
from orchestrator.checkpoint.manifest import MANIFEST, Manifest, parse_manifest
from orchestrator.checkpoint.state import TrainState
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

    Remote files are fetched into a temporary folder that is removed again, so tensors are copied out of it.

    Raises:
        CheckpointError: it is not there, not complete or damaged.
    """
    if not is_complete_ray_checkpoint(checkpoint):
        raise _incomplete(checkpoint.path)
    with checkpoint.as_directory() as folder:
        state = read_state(folder, verify=verify)
        return state if _is_local(checkpoint) else _copied(state)


def is_complete_ray_checkpoint(checkpoint: Checkpoint) -> bool:
    """Whether every file that the manifest lists is in the checkpoint's storage with its size. Fetches the manifest
    only."""
    manifest = _stored_manifest(checkpoint)
    if manifest is None:
        return False
    paths = {str(PurePosixPath(checkpoint.path) / name): entry.size for name, entry in manifest.files.items()}
    infos = _filesystem(checkpoint).get_file_info(list(paths))
    return all(info.is_file and info.size == paths[info.path] for info in infos)


def _stored_manifest(checkpoint: Checkpoint) -> Manifest | None:
    path = str(PurePosixPath(checkpoint.path) / MANIFEST)
    storage = _filesystem(checkpoint)
    if not storage.get_file_info(path).is_file:
        return None
    with storage.open_input_file(path) as file:
        try:
            return parse_manifest(file.read(), path)
        except CheckpointError as error:
            if error.reason is RefusalReason.UNSUPPORTED:
                raise
            return None


def _filesystem(checkpoint: Checkpoint) -> Any:
    """The pyarrow file system of a checkpoint; Ray fills it in whenever it makes one."""
    return checkpoint.filesystem


def _is_local(checkpoint: Checkpoint) -> bool:
    return bool(_filesystem(checkpoint).type_name == "local")


def _copied(state: TrainState) -> TrainState:
    optimizer = state.optimizer and {
        name: {slot: tensor.clone() for slot, tensor in slots.items()} for name, slots in state.optimizer.items()
    }
    rng = state.rng and {name: tensor.clone() for name, tensor in state.rng.items()}
    weights = {name: tensor.clone() for name, tensor in state.weights.items()}
    return replace(state, weights=weights, optimizer=optimizer, rng=rng)


def _incomplete(path: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a complete checkpoint: its manifest is missing, or files are shorter than it says",
        reason=RefusalReason.CORRUPT,
        path=path,
        hint="use an earlier checkpoint of the run",
    )
