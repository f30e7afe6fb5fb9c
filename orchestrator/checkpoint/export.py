"""A state as other programs read it.

Promises: the file appears whole or not at all; weights are float32 CPU tensors without prefixes; torch files load with
`weights_only=True`; normalizing an exported file gives the same weights hash.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.normalize import load_state
from orchestrator.checkpoint.optimizer import number_parameters
from orchestrator.checkpoint.state import TrainState
from orchestrator.checkpoint.tensors import write_tensors
from orchestrator.config.model import Wav2LipSyncNetConfig
from orchestrator.errors import CheckpointError, ConfigError, RefusalReason

_WAV2LIP_LR = 1e-4


class ExportFormat(StrEnum):
    """What to export to."""

    LATENTSYNC = "latentsync"
    """`{"state_dict": ...}`, as LatentSync's inference and evaluation read it; for any network."""
    WAV2LIP = "wav2lip"
    """`{"state_dict", "optimizer", "global_step", "global_epoch"}`, as Wav2Lip's trainer reads it; for its net only."""
    SAFETENSORS = "safetensors"
    """Plain tensors, with the step and the description of the network as metadata; for any network."""


def export(path_or_state: str | Path | TrainState, format: ExportFormat | str, file: str | Path) -> Path:
    """Write a checkpoint in another program's format; an existing file is replaced.

    Args:
        path_or_state: a state, a canonical directory, or any readable file.
        format: `latentsync`, `wav2lip` or `safetensors`.
        file: where to.

    Raises:
        CheckpointError: the checkpoint is refused, does not fit the format (`mismatch`), or `file` is a directory.
        ConfigError: no such format.
    """
    kind = _format(format)
    target = Path(file)
    if target.is_dir():
        raise CheckpointError(
            f"{target} is a directory", reason=RefusalReason.EXISTS, path=str(target), hint="give the name of a file"
        )
    state = path_or_state if isinstance(path_or_state, TrainState) else load_state(path_or_state)
    if kind is ExportFormat.WAV2LIP and not isinstance(state.model, Wav2LipSyncNetConfig):
        raise CheckpointError(
            f"a {state.model.name} cannot be exported as `wav2lip`: Wav2Lip's code reads its own SyncNet_color only",
            reason=RefusalReason.MISMATCH,
            hint="export it as `latentsync` or `safetensors`",
        )
    _write_whole(target, lambda partial: _WRITERS[kind](state, partial))
    return target


def _format(value: ExportFormat | str) -> ExportFormat:
    try:
        return ExportFormat(value)
    except ValueError:
        known = ", ".join(f"`{kind}`" for kind in ExportFormat)
        problem = f"`format` must be one of {known}, but is `{value}`"
        raise ConfigError([problem], source="the export call") from None


def _write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, then rename over it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # torch names the folder inside its zip after the file, without the ending; it refuses an empty name
    partial = target.parent / f".partial-{uuid.uuid4().hex}.tmp"
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _latentsync(state: TrainState, file: Path) -> None:
    torch.save({"state_dict": _plain_weights(state)}, file)


def _wav2lip(state: TrainState, file: Path) -> None:
    optimizer = number_parameters(state.optimizer, state.model, _WAV2LIP_LR) if state.optimizer else None
    payload: dict[str, Any] = {
        "state_dict": _plain_weights(state),
        "optimizer": optimizer,
        "global_step": state.step,
        "global_epoch": state.epoch,
    }
    torch.save(payload, file)


def _safetensors(state: TrainState, file: Path) -> None:
    metadata = {"format": "pt", "global_step": str(state.step), "model_config": state.model.model_dump_json()}
    write_tensors(file, _plain_weights(state), metadata)


_WRITERS: dict[ExportFormat, Callable[[TrainState, Path], None]] = {
    ExportFormat.LATENTSYNC: _latentsync,
    ExportFormat.WAV2LIP: _wav2lip,
    ExportFormat.SAFETENSORS: _safetensors,
}


def _plain_weights(state: TrainState) -> dict[str, Tensor]:
    """Tensors of their own: without views, which would store their whole base."""
    return {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in state.weights.items()
    }
