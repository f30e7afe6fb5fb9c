"""Which files of a DeepSpeed folder are there, and what each rank's file holds.

Contract: every rank that the files speak of must be there, and a missing one is named; models cut in other ways than by
ZeRO (tensor parallel, pipeline, experts, universal) are refused as such. What a rank holds is checked to be flat
rows of numbers and shapes before anything is cut out of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from orchestrator.checkpoint.formats.base import refuse
from orchestrator.checkpoint.formats.folders.files import FolderReader, a_tensor, is_count, is_shape, steps_of
from orchestrator.errors import CheckpointError, RefusalReason

_OPTIMIZER = re.compile(r"((?:[a-z0-9]+_)?zero_pp_rank_)([0-9]{1,6})(_mp_rank_([0-9]{1,6})_optim_states\.pt)")
_MODEL = re.compile(r"(?:((?:[a-z0-9]+_)?zero_pp_rank_)([0-9]{1,6})_)?mp_rank_([0-9]{1,6})_model_states\.pt")
_OTHERS = {
    "by experts": re.compile(r".*expert.*_states\.pt"),
    "as a pipeline": re.compile(r"layer_.*_states\.pt"),
}
MOMENTS = ("exp_avg", "exp_avg_sq")
"""Slots of Adam that are as long as the weights."""

_MOST_RANKS = 1 << 16
_FLAT = {"single_partition_of_fp32_groups": 2, "fp32_flat_groups": 3}


def is_state_file(name: str) -> bool:
    """Whether DeepSpeed names files of a checkpoint so."""
    return any(pattern.fullmatch(name) for pattern in (_OPTIMIZER, _MODEL, *_OTHERS.values()))


@dataclass(frozen=True)
class StateFiles:
    """Names of the files by rank, relative to the folder that was given."""

    models: dict[int, str]
    """What describes the module; one file, or one of each rank in stage 3."""
    optimizers: dict[int, str]
    """Each rank's part of weights and moments; none without ZeRO."""


@dataclass(frozen=True)
class RankState:
    """What one rank's optimizer file holds."""

    name: str
    """The file."""
    stage: int
    """3, or 2 for 1 and 2, which are laid out alike."""
    ranks: int
    """How many there should be."""
    rows: tuple[Tensor, ...]
    """The float32 weights: per group, or per part of a group in stage 3."""
    base: Any
    """The state of the optimizer below ZeRO; not checked yet."""


def find_files(reader: FolderReader, prefix: str, names: list[str]) -> StateFiles:
    """Sort the files of a tag's folder.

    Raises:
        CheckpointError: `unsupported`.
    """
    models: dict[int, str] = {}
    optimizers: dict[int, str] = {}
    for name in names:
        for how, pattern in _OTHERS.items():
            if pattern.fullmatch(name):
                raise _unsupported(reader, f"holds a model that DeepSpeed cut {how} ({name})")
        if match := _OPTIMIZER.fullmatch(name):
            _require_whole(reader, name, int(match[4]))
            optimizers[int(match[2])] = f"{prefix}{name}"
        elif match := _MODEL.fullmatch(name):
            _require_whole(reader, name, int(match[3]))
            models[int(match[2] or 0)] = f"{prefix}{name}"
    return StateFiles(models, optimizers)


def read_ranks(reader: FolderReader, files: StateFiles) -> list[RankState]:
    """Every rank's optimizer file, in order.

    Raises:
        CheckpointError: `corrupt`, when one is missing or they do not belong together.
    """
    some = next(iter(files.optimizers.values()))
    count = _read_rank(reader, some).ranks
    named = [_renumbered(some, rank) for rank in range(count)]
    if extra := [name for name in files.optimizers.values() if name not in named]:
        raise reader.damaged(extra[0], f"the others were saved by {count} ranks, to which it does not belong")
    states = [_read_rank(reader, name) for name in named]
    for state in states:
        if (state.stage, state.ranks, len(state.rows)) != (states[0].stage, count, len(states[0].rows)):
            raise reader.damaged(state.name, f"it does not belong together with {states[0].name}")
    return states


def moments_of(states: list[RankState]) -> tuple[dict[str, list[list[Tensor]]], int] | None:
    """Slot -> rank -> rows, cut as those of the weights are, and the steps done; none when they do not fit."""
    found: dict[str, list[list[Tensor]]] = {slot: [] for slot in MOMENTS}
    steps: list[Any] = []
    for state in states:
        entries = _entries(state.base)
        steps += [entry.get("step") for entry in entries]
        for slot in MOMENTS:
            rows = [_beside(entry.get(slot), weights) for entry, weights in zip(entries, state.rows, strict=False)]
            if len(entries) != len(state.rows) or any(row is None for row in rows):
                return None
            found[slot].append([row for row in rows if row is not None])
    step = steps_of({"state": {number: {"step": step} for number, step in enumerate(steps)}})
    return None if step is None else (found, step)


def model_names(files: StateFiles, ranks: int) -> list[str]:
    """The files that describe the module in stage 3, one per rank; those that are not there are named as they were."""
    folder, slash, name = files.models[min(files.models)].rpartition("/")
    match = _MODEL.fullmatch(name)
    if match is None or match[1] is None:
        return list(files.models.values())
    return [f"{folder}{slash}{match[1]}{rank}_mp_rank_{match[3]}_model_states.pt" for rank in range(ranks)]


def settings_of(state: RankState) -> dict[str, Any]:
    """The optimizer's settings, of its first group."""
    groups = state.base.get("param_groups") if isinstance(state.base, Mapping) else None
    first = groups[0] if isinstance(groups, list) and groups and isinstance(groups[0], Mapping) else {}
    return {key: value for key, value in first.items() if isinstance(key, str) and key not in ("params", "step")}


def shapes_in(reader: FolderReader, name: str, raw: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by parameter name.

    Raises:
        CheckpointError: `corrupt`.
    """
    if not isinstance(raw, Mapping) or not all(isinstance(key, str) and is_shape(item) for key, item in raw.items()):
        raise reader.damaged(name, "it does not list the shapes of its parameters by name")
    return {key: tuple(item) for key, item in raw.items()}


def _read_rank(reader: FolderReader, name: str) -> RankState:
    content = reader.mapping(name).get("optimizer_state_dict")
    if not isinstance(content, Mapping):
        raise reader.damaged(name, "it has no `optimizer_state_dict`, as DeepSpeed writes it")
    key = next((key for key in _FLAT if key in content), None)
    rows = content[key] if key else None
    rows = [rows] if isinstance(rows, Tensor) else rows
    if key is None or not isinstance(rows, (list, tuple)) or not rows:
        raise reader.damaged(name, f"it has neither {' nor '.join(f'`{key}`' for key in _FLAT)}")
    flat = [a_tensor(row) for row in rows]
    if not all(row is not None and row.dim() == 1 and row.is_floating_point() for row in flat):
        raise reader.damaged(name, f"`{key}` in it should hold flat rows of numbers")
    ranks = content.get("partition_count")
    ranks = max(ranks, default=None) if isinstance(ranks, list) and all(map(is_count, ranks)) else ranks
    if not isinstance(ranks, int) or not is_count(ranks, _MOST_RANKS) or ranks < 1:
        raise reader.damaged(name, "it does not say how many ranks there were (`partition_count`)")
    base = content.get("base_optimizer_state", content.get("optimizer_state_dict"))
    return RankState(name, _FLAT[key], ranks, tuple(row for row in flat if row is not None), base)


def _beside(value: Any, weights: Tensor) -> Tensor | None:
    """A row of moments as long as that of its weights, which were saved without padding."""
    row = a_tensor(value)
    if row is None or row.dim() != 1 or row.numel() < weights.numel() or not row.is_floating_point():
        return None
    return row.narrow(0, 0, weights.numel())


def _entries(base: Any) -> list[Mapping[str, Any]]:
    """The optimizer's state per flat row: as a torch state dict, or as a list in elastic checkpoints."""
    groups = base.get("param_groups") if isinstance(base, Mapping) else None
    states = base.get("state") if isinstance(base, Mapping) else base
    if isinstance(states, Mapping) and all(map(is_count, states)):
        states = [states[number] for number in sorted(states)]
    if not isinstance(states, list) or not all(isinstance(state, Mapping) for state in states):
        return []
    shared = [group.get("step") for group in groups if isinstance(group, Mapping)] if isinstance(groups, list) else []
    step = shared[0] if shared else None  # some fused optimizers count per group
    return [{"step": step, **state} for state in states]


def _renumbered(path: str, rank: int) -> str:
    folder, slash, name = path.rpartition("/")
    match = _OPTIMIZER.fullmatch(name)
    return f"{folder}{slash}{match[1]}{rank}{match[3]}" if match else path


def _require_whole(reader: FolderReader, name: str, rank: int) -> None:
    if rank > 0:
        raise _unsupported(reader, f"holds a model that was cut over several GPUs by tensor parallelism ({name})")


def _unsupported(reader: FolderReader, what: str) -> CheckpointError:
    hint = "gather it into one state dict where it was trained, and give that"
    return refuse(reader.folder, RefusalReason.UNSUPPORTED, what, hint)
