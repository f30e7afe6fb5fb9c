"""A state as other programs read it.

Promises: the file appears whole or not at all; weights are float32 CPU tensors; torch files load with
`weights_only=True`; normalizing an exported file gives the same weights hash, and the step, epoch and optimizer that
the format has room for. Weights that are float32 already are written from where they lie, without a second copy. Of a
state with a running average it is the average that is exported, without the moments, which belong to other weights.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.export_lightning import lightning_file
from orchestrator.checkpoint.export_onnx import onnx_file
from orchestrator.checkpoint.normalize import load_state
from orchestrator.checkpoint.optimizer import number_parameters
from orchestrator.checkpoint.partials import partial_file
from orchestrator.checkpoint.state import TrainState
from orchestrator.checkpoint.storage import Location
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
    LIGHTNING = "lightning"
    """A full Lightning file, weights below `model.`, with AdamW moments where there are any; for any network."""
    ONNX = "onnx"
    """One graph, `frames` and `audio` to both embeddings, compared with torch's before it appears; for any network."""


def export(path_or_state: Location | TrainState, format: ExportFormat | str, file: str | Path) -> Path:
    """Write a checkpoint in another program's format; an existing file is replaced.

    Args:
        path_or_state: a state, a canonical directory, or any readable file; also a URI.
        format: `latentsync`, `wav2lip`, `safetensors`, `lightning` or `onnx`.
        file: where to.

    Raises:
        CheckpointError: the checkpoint is refused, does not fit the format (`mismatch`), `file` is a directory, the
            disk is full or read-only (`storage`), or what `onnx` needs is not installed (`unsupported`).
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
    with partial_file(target) as partial:
        _WRITERS[kind](state.judged(), partial)
    return target


def _format(value: ExportFormat | str) -> ExportFormat:
    try:
        return ExportFormat(value)
    except ValueError:
        known = ", ".join(f"`{kind}`" for kind in ExportFormat)
        problem = f"`format` must be one of {known}, but is `{value}`"
        raise ConfigError([problem], source="the export call") from None


def _latentsync(state: TrainState, file: Path) -> None:
    _save({"state_dict": _plain_weights(state)}, file)


def _wav2lip(state: TrainState, file: Path) -> None:
    optimizer = number_parameters(state.optimizer, state.model, _WAV2LIP_LR) if state.optimizer else None
    payload: dict[str, Any] = {
        "state_dict": _plain_weights(state),
        "optimizer": optimizer,
        "global_step": state.step,
        "global_epoch": state.epoch,
    }
    _save(payload, file)


def _safetensors(state: TrainState, file: Path) -> None:
    metadata = {"format": "pt", "global_step": str(state.step), "model_config": state.model.model_dump_json()}
    write_tensors(file, state.weights, metadata, as_float32=True)


def _lightning(state: TrainState, file: Path) -> None:
    _save(lightning_file(state, _plain_weights(state)), file)


def _onnx(state: TrainState, file: Path) -> None:
    onnx_file(state, file)


_WRITERS: dict[ExportFormat, Callable[[TrainState, Path], None]] = {
    ExportFormat.LATENTSYNC: _latentsync,
    ExportFormat.WAV2LIP: _wav2lip,
    ExportFormat.SAFETENSORS: _safetensors,
    ExportFormat.LIGHTNING: _lightning,
    ExportFormat.ONNX: _onnx,
}


def _save(payload: dict[str, Any], file: Path) -> None:
    """A torch file; a full disk is a RuntimeError to torch."""
    try:
        torch.save(payload, file)
    except RuntimeError as error:
        raise OSError(f"torch could not write it to its end ({str(error).splitlines()[0]})") from error


def _plain_weights(state: TrainState) -> dict[str, Tensor]:
    """float32 tensors on the CPU, each with a storage of its own: torch would store the whole base of a view."""
    return {name: _own(tensor) for name, tensor in state.weights.items()}


def _own(tensor: Tensor) -> Tensor:
    """The same values; where they lie right already they are shared, and only the storage around them is new."""
    plain = tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype).contiguous()
    return torch.from_numpy(plain.numpy())
