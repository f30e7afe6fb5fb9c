"""The verbs on checkpoints: `inspect`, `normalize`, `load_model`.

Promises: `normalize` writes one directory named by its content hash below `out` and nothing else; doing it again
verifies and returns that directory; two processes at once end with one good directory; a canonical directory is
returned as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from orchestrator.checkpoint.convert import ModelOption, Options, convert
from orchestrator.checkpoint.directory import (
    is_canonical,
    is_complete,
    read_manifest,
    read_state,
    save_state,
    state_hash,
)
from orchestrator.checkpoint.report import CANONICAL, InspectReport, count_dtypes, count_parameters, parts
from orchestrator.checkpoint.state import TrainState
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import SyncNet, build_meta


@dataclass(frozen=True)
class NormalizedCheckpoint:
    """The result of `normalize`."""

    path: Path
    """The canonical directory."""
    report: InspectReport
    """What was found and settled."""
    state_hash: str
    """Content hash of the state."""
    written: bool
    """Whether this call wrote it; otherwise it was there already."""


def inspect(path: str | Path, *, model_config: ModelOption = None) -> InspectReport:
    """Say what a checkpoint is and what `normalize` would make of it. Writes nothing.

    Raises:
        CheckpointError: the file is refused; `reason` says why.
    """
    where = Path(path)
    if where.is_dir() and is_canonical(where):
        return _canonical_report(where, read_state(where))
    return convert(where, model_config, Options()).report


def normalize(
    path: str | Path,
    out: str | Path,
    *,
    model_config: ModelOption = None,
    dtype: str = "float32",
    allow_non_finite: bool = False,
) -> NormalizedCheckpoint:
    """Turn a foreign checkpoint into a resumable state at `out/<content hash>`.

    Args:
        path: a file in any readable format; a canonical directory is verified and returned as it is.
        out: folder of normalized checkpoints; made when missing.
        model_config: the network, where weights alone do not tell it.
        dtype: `float32` casts floating-point weights, `keep` leaves them.
        allow_non_finite: take weights with NaN or infinity.

    Raises:
        CheckpointError: the file is refused, or what is stored at that hash is damaged.
        ConfigError: an option is wrong.
    """
    where = Path(path)
    if where.is_dir() and is_canonical(where):
        state = read_state(where)
        return NormalizedCheckpoint(where, _canonical_report(where, state), read_manifest(where).content_hash, False)
    converted = convert(where, model_config, Options(dtype, allow_non_finite))
    name = state_hash(converted.state)
    target, written = _store(converted.state, Path(out), name)
    return NormalizedCheckpoint(target, converted.report, name, written)


def load_state(path: str | Path, *, model_config: ModelOption = None) -> TrainState:
    """The state in a canonical directory, or in any readable file.

    Raises:
        CheckpointError: the file is refused; `reason` says why.
    """
    where = Path(path)
    if where.is_dir() and is_canonical(where):
        return read_state(where)
    return convert(where, model_config, Options()).state


def load_model(path: str | Path, *, device: str | torch.device = "cpu", model_config: ModelOption = None) -> SyncNet:
    """The network of a checkpoint with its weights, in eval mode.

    Raises:
        CheckpointError: the file is refused; `reason` says why.
    """
    return model_of(load_state(path, model_config=model_config), device=device)


def model_of(state: TrainState, *, device: str | torch.device = "cpu") -> SyncNet:
    """The network of a state with its weights in float32, in eval mode. Copies: a file may change under its map."""
    model = build_meta(state.model)
    weights = {
        name: tensor.to(device, torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in state.weights.items()
    }
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _store(state: TrainState, out: Path, name: str) -> tuple[Path, bool]:
    """Write the state once, whoever comes first."""
    if out.exists() and not out.is_dir():
        raise CheckpointError(
            f"{out} is a file", reason=RefusalReason.EXISTS, path=str(out), hint="give a folder to write to"
        )
    target = out / name
    if not target.exists():
        try:
            save_state(state, target)
            return target, True
        except CheckpointError as error:
            if error.reason is not RefusalReason.EXISTS:
                raise
    _verify_stored(target, name)  # it was there, or another process was faster
    return target, False


def _verify_stored(target: Path, name: str) -> None:
    hint = f"remove {target} and normalize again"
    if not is_complete(target):
        raise CheckpointError(f"{target} is incomplete", reason=RefusalReason.CORRUPT, path=str(target), hint=hint)
    if read_manifest(target).content_hash != name:
        raise CheckpointError(
            f"{target} holds another state than its name says",
            reason=RefusalReason.CORRUPT,
            path=str(target),
            hint=hint,
        )
    read_state(target)


def _canonical_report(where: Path, state: TrainState) -> InspectReport:
    present, missing = parts(state)
    origin = state.provenance
    return InspectReport(
        path=str(where),
        container=CANONICAL,
        format=CANONICAL,
        architecture=origin.architecture if origin else state.model.name,
        model=state.model,
        parameters=count_parameters(state),
        dtypes=count_dtypes(state.weights),
        step=state.step,
        samples=state.samples,
        present=present,
        missing=missing,
        decisions=origin.decisions if origin else (),
        allowed_classes=origin.allowed_classes if origin else (),
    )
