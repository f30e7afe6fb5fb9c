"""Folders of Accelerate's `save_state`, both layouts: `model.safetensors` or `pytorch_model.bin`, whole or in shards.

Beside the weights: `optimizer.bin`, `scheduler.bin`, `scaler.pt`, `random_states_<rank>.pkl`, and
`custom_checkpoint_<n>.pkl` of a trainer's own objects; a second model is `model_1` and so on. FSDP's whole weights are
`pytorch_model_fsdp.bin`, its shards folders of torch.distributed.checkpoint. The `step` in
`random_states` counts calls of `accumulate` since the last epoch, so it is not the optimizer's and never used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.checkpoint.architecture import ANCHORS
from orchestrator.checkpoint.formats.base import Contents, FolderFormat, refuse
from orchestrator.checkpoint.formats.folders.beside import assemble, read_weights, weight_file
from orchestrator.checkpoint.formats.folders.dcp import read_items
from orchestrator.checkpoint.formats.folders.files import FolderReader, files_in, folders_in, is_count
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.errors import RefusalReason

_RANDOM = re.compile(r"random_states_[0-9]+\.pkl")
_CUSTOM = re.compile(r"custom_checkpoint_[0-9]+\.pkl")
_MODEL = re.compile(r"(?:model|pytorch_model|pytorch_model_fsdp)(_[0-9]+)\.(?:safetensors|bin)(?:\.index\.json)?")
_SHARDED = re.compile(r"(pytorch_model_fsdp|optimizer)_0")
_COUNTS = {"step": ("global_step", "step", "total_steps"), "epoch": ("epoch", "global_epoch", "current_epoch")}


def detect(folder: Path) -> bool:
    """Whether there are generators' states or an optimizer, as Accelerate names them, beside weights."""
    files = files_in(folder)
    return any(map(_RANDOM.fullmatch, files)) or ("optimizer.bin" in files and weight_file(files) is not None)


def read(folder: Path) -> Contents:
    """Read weights, optimizer, schedule, scaler, and the counts that a trainer registered."""
    reader, files = FolderReader(folder), files_in(folder)
    if sharded := [name for name in folders_in(folder) if _SHARDED.fullmatch(name)]:
        return _read_sharded(reader, files, sharded)
    number, weights, notes = _the_model(reader, files)
    beside = {
        "optimizer": _if_there(f"optimizer{number}.bin", files),
        "scheduler": _if_there(f"scheduler{number}.bin", files),
        "scaler": _if_there("scaler.pt", files),
    }
    return _finish(reader, files, weights, beside, notes)


ACCELERATE = FolderFormat("accelerate", detect, read)


def _finish(
    reader: FolderReader, files: list[str], weights: Any, beside: dict[str, str | None], notes: tuple[Decision, ...]
) -> Contents:
    counts, told = _registered(reader, files)
    data, stepped = assemble(reader, weights, beside, counts)
    settled = (*notes, *told, *stepped, *reader.left_out(files))
    return reader.contents(ACCELERATE.name, data, notes=settled)


def _the_model(reader: FolderReader, files: list[str]) -> tuple[str, Any, tuple[Decision, ...]]:
    """What stands behind its name, its weights, and how it was chosen."""
    numbers = ["", *dict.fromkeys(match[1] for name in files if (match := _MODEL.fullmatch(name)))]
    found = {number: name for number in numbers if (name := weight_file(files, number))}
    if not found:
        what = "is incomplete: an Accelerate folder without model.safetensors or pytorch_model.bin"
        raise refuse(reader.folder, RefusalReason.CORRUPT, what, "download or copy the whole folder again")
    held = {number: read_weights(reader, name) for number, name in found.items()}
    if len(held) == 1:
        [(number, weights)] = held.items()
        return number, weights, ()
    ours = [number for number, weights in held.items() if _is_syncnet(weights)]
    if len(ours) != 1:
        what = f"holds {len(held)} models, {', '.join(found.values())}, of which {len(ours)} look like a SyncNet"
        raise refuse(reader.folder, RefusalReason.UNSUPPORTED, what, "give the file of the one that you mean")
    why = f"of {len(held)} models only this one is a SyncNet; optimizer and schedule were taken by its number"
    return ours[0], held[ours[0]], (Decision("weights", DecisionSource.DERIVED, found[ours[0]], why),)


def _is_syncnet(weights: Any) -> bool:
    """Whether it has a tensor that only SyncNets have."""
    return isinstance(weights, Mapping) and any(isinstance(name, str) and name.endswith(ANCHORS) for name in weights)


def _read_sharded(reader: FolderReader, files: list[str], folders: list[str]) -> Contents:
    """FSDP's layout: a folder of torch.distributed.checkpoint for each of model and optimizer."""
    found: dict[str, Any] = {}
    for folder in folders:
        found |= read_items(reader, f"{folder}/")
    weights = found.pop("model", None)
    if weights is None:
        what = "is incomplete: an Accelerate folder of FSDP without pytorch_model_fsdp_0"
        raise refuse(reader.folder, RefusalReason.CORRUPT, what, "download or copy the whole folder again")
    beside = {"scheduler": _if_there("scheduler.bin", files), "scaler": _if_there("scaler.pt", files)}
    counts, told = _registered(reader, files)
    data, stepped = assemble(reader, weights, beside, {**counts, "optimizer": found.get("optimizer")})
    return reader.contents(ACCELERATE.name, data, notes=(*told, *stepped, *reader.left_out(files)))


def _registered(reader: FolderReader, files: list[str]) -> tuple[dict[str, Any], tuple[Decision, ...]]:
    """Step and epoch, where exactly one object that a trainer registered counts them."""
    objects = {name: reader.object(name) for name in files if _CUSTOM.fullmatch(name)}
    counts: dict[str, Any] = {}
    notes = []
    for field, keys in _COUNTS.items():
        said = {
            (name, key): value[key]
            for name, value in objects.items()
            for key in keys
            if isinstance(value, Mapping) and is_count(value.get(key))
        }
        if len(said) == 1:
            [((name, key), counts[field])] = said.items()
            notes.append(Decision(field, DecisionSource.FILE, counts[field], f"`{key}` in {name}"))
    return counts, tuple(notes)


def _if_there(name: str, files: list[str]) -> str | None:
    return name if name in files else None
