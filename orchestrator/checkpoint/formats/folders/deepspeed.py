"""DeepSpeed's folders, ZeRO stages 0 to 3: whole float32 weights and Adam moments by name from every rank's part.

Layout: `latest` names the tag's folder; in it `mp_rank_00_model_states.pt` (one per rank in stage 3) describes the
module and `zero_pp_rank_<rank>_mp_rank_00_optim_states.pt` holds that rank's part of weights and moments. Contract: the
float32 weights that the optimizer steps are rebuilt, not the module's own half-precision copy; moments come along when
they fit and are left out with a note when they do not. The tag's folder may be given itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.formats.base import Contents, FolderFormat, refuse
from orchestrator.checkpoint.formats.folders.deepspeed_ranks import (
    RankState,
    StateFiles,
    find_files,
    is_state_file,
    model_names,
    moments_of,
    read_ranks,
    settings_of,
    shapes_in,
)
from orchestrator.checkpoint.formats.folders.files import FolderReader, a_tensor, by_number, files_in, folders_in, peek
from orchestrator.checkpoint.formats.folders.flat import Row, Shapes, cut_parts, cut_whole, empty
from orchestrator.checkpoint.formats.paths import member_of, require_inside
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.errors import RefusalReason

_LATEST = "latest"
_LONGEST_TAG = 512
_CARRIED = ("lr_scheduler", "global_steps", "global_samples")
_ENGINE = (
    "module", "buffer_names", "optimizer", "param_shapes", "frozen_param_shapes", "shared_params",
    "frozen_param_fragments", "data_sampler", "random_ltd", "sparse_tensor_module_names", "csr_tensor_module_names",
    "skipped_steps", "dp_world_size", "mp_world_size", "ds_config", "ds_version", *_CARRIED,
)  # fmt: skip
"""Entries that DeepSpeed writes; all others are its caller's `client_state`."""
_GATHER = "save it again where it was trained, with all ranks"


def detect(folder: Path) -> bool:
    """Whether there are files of a checkpoint, or `latest` and a folder with such files."""
    files = files_in(folder)
    return any(map(is_state_file, files)) or (_LATEST in files and bool(_tags(folder)))


def read(folder: Path) -> Contents:
    """Put the weights and moments of all ranks together."""
    reader = FolderReader(folder)
    prefix, notes = _the_tag(reader)
    names = files_in(folder / prefix)
    files = find_files(reader, prefix, names)
    if 0 not in files.models:
        expected = model_names(files, 1)[0] if files.models else f"{prefix}mp_rank_00_model_states.pt"
        member_of(folder, expected)
        raise refuse(folder, RefusalReason.CORRUPT, "is incomplete: no file describes the module", _GATHER)
    model = reader.mapping(files.models[0])
    data, told = _Rebuilder(reader, files, model).data()
    left = reader.left_out([*(f"{prefix}{name}" for name in names), *(files_in(folder) if prefix else ())])
    return reader.contents(DEEPSPEED.name, data, notes=(*notes, *told, *left))


DEEPSPEED = FolderFormat("deepspeed", detect, read)


def _tags(folder: Path) -> list[str]:
    return [name for name in folders_in(folder) if any(map(is_state_file, peek(folder / name)))]


def _the_tag(reader: FolderReader) -> tuple[str, tuple[Decision, ...]]:
    """The folder that `latest` names, as a prefix; empty when the tag's folder was given itself."""
    files = files_in(reader.folder)
    if any(map(is_state_file, files)):
        return "", ()
    if reader.blob(_LATEST).size > _LONGEST_TAG:
        raise reader.damaged(_LATEST, "it should name a folder, but is much longer than a name")
    tag = reader.text(_LATEST).strip()
    require_inside(reader.folder, tag)
    tags = by_number(_tags(reader.folder))
    if tag not in tags:
        what = f"is incomplete: `latest` names {tag!a}, which is not there or is empty; found: {', '.join(tags)}"
        newest = Path(reader.folder.name) / tags[-1]
        hint = f"copy the whole folder again, or give {newest} if that is the one that you mean"
        raise refuse(reader.folder, RefusalReason.CORRUPT, what, hint)
    others = [name for name in tags if name != tag]
    why = f"`latest` names it; there is also {', '.join(others[-5:])}" if others else "`latest` names it"
    return f"{tag}/", (Decision("checkpoint", DecisionSource.FILE, tag, why),)


class _Rebuilder:
    """One checkpoint on its way to a full dict."""

    def __init__(self, reader: FolderReader, files: StateFiles, model: Mapping[Any, Any]) -> None:
        self.reader = reader
        self.files = files
        self.model = model
        self.name = files.models[0]
        module = model.get("module")
        self.module = module if isinstance(module, Mapping) else {}
        self.notes: list[Decision] = []

    def data(self) -> tuple[dict[str, Any], tuple[Decision, ...]]:
        """Everything that a training state needs, and what was settled."""
        self.require_one_piece()
        if self.files.optimizers:
            states = read_ranks(self.reader, self.files)
            weights, optimizer = self.rebuilt(states)
        else:
            weights, optimizer = self.plain()
        carried = {key: self.model[key] for key in _CARRIED if self.model.get(key) is not None}
        if "global_steps" in carried:
            carried["global_step"] = carried.pop("global_steps")
        client = {key: value for key, value in self.model.items() if isinstance(key, str) and key not in _ENGINE}
        data = {**client, "model": weights, "optimizer": optimizer, **carried}
        return {key: value for key, value in data.items() if value is not None}, tuple(self.notes)

    def require_one_piece(self) -> None:
        cut = self.model.get("mp_world_size")
        if isinstance(cut, int) and cut > 1:
            what = f"holds a model that was cut over {cut} GPUs by tensor parallelism"
            raise refuse(self.reader.folder, RefusalReason.UNSUPPORTED, what, "gather it where it was trained")
        config = self.model.get("ds_config")
        zero = config.get("zero_optimization") if isinstance(config, Mapping) else None
        stage = zero.get("stage") if isinstance(zero, Mapping) else None
        folder = self.name.rpartition("/")[0]
        if not self.files.optimizers and "zero" in folders_in(self.reader.folder / folder):
            what = "is one of DeepSpeed's universal checkpoints, with a folder per parameter"
            raise refuse(self.reader.folder, RefusalReason.UNSUPPORTED, what, "give the checkpoint it was made from")
        if isinstance(stage, int) and stage > 0 and not self.files.optimizers:
            missing = f"{folder}{'/' if folder else ''}zero_pp_rank_0_mp_rank_00_optim_states.pt"
            what = f"is incomplete: {missing} and those of the other ranks are missing, which hold the float32 weights"
            raise refuse(self.reader.folder, RefusalReason.CORRUPT, what, "copy the whole folder again")

    def plain(self) -> tuple[Any, Any]:
        """Without ZeRO: whole as they are."""
        optimizer = self.model.get("optimizer")
        if isinstance(optimizer, Mapping) and "param_groups" in optimizer:
            return self.model.get("module"), optimizer
        if optimizer is not None:
            why = "the optimizer without ZeRO is not laid out as torch's, so it is not carried over"
            self.notes.append(Decision("optimizer", DecisionSource.DERIVED, None, why))
        return self.model.get("module"), None

    def rebuilt(self, states: list[RankState]) -> tuple[dict[str, Any], Any]:
        groups = self.groups()
        trained = self.cut(states, groups, [list(state.rows) for state in states])
        why = f"the float32 weights that the optimizer steps, put together from {len(states)} ranks"
        self.notes.append(Decision("weights", DecisionSource.FILE, f"{len(trained)} tensors", why))
        weights = self.in_order({**trained, **self.frozen(states)})
        names = [name for name in weights if name in trained]
        return weights, self.optimizer(states, groups, names)

    def groups(self) -> list[Shapes]:
        raw = self.model.get("param_shapes")
        listed = raw if isinstance(raw, (list, tuple)) else [raw]  # older files have one group
        return [shapes_in(self.reader, self.name, group) for group in listed]

    def cut(self, states: list[RankState], groups: list[Shapes], rows: list[list[Tensor]]) -> dict[str, Tensor]:
        """Tensors by name from the rows of every rank."""
        try:
            if states[0].stage == 3:
                merged = {name: shape for group in groups for name, shape in group.items()}
                return cut_parts([Row(own) for own in rows], merged)
            if len(groups) != len(rows[0]):
                raise ValueError(f"there are {len(rows[0])} of them, but {len(groups)} groups of shapes")
            found: dict[str, Tensor] = {}
            for number, group in enumerate(groups):
                found |= cut_whole(Row(own[number] for own in rows), group, len(states))
            return found
        except ValueError as error:
            how = f"is damaged: the ranks' rows of weights do not fit the shapes in {self.name}: {error}"
            raise refuse(self.reader.folder, RefusalReason.CORRUPT, how, _GATHER) from error

    def frozen(self, states: list[RankState]) -> dict[str, Tensor]:
        """Parameters that are not trained, which lie beside the module."""
        if self.model.get("frozen_param_shapes") is None or self.model.get("frozen_param_fragments") is None:
            return {}
        shapes = shapes_in(self.reader, self.name, self.model["frozen_param_shapes"])
        sources = [self.model]
        if states[0].stage == 3:
            sources = [self.reader.mapping(name) for name in model_names(self.files, len(states))]
        held = [self.fragments(source, shapes) for source in sources]
        return {name: self.whole(name, shape, [own[name] for own in held]) for name, shape in shapes.items()}

    def fragments(self, model: Mapping[Any, Any], shapes: Shapes) -> dict[str, Tensor]:
        raw = model.get("frozen_param_fragments")
        found = {name: a_tensor(raw.get(name)) if isinstance(raw, Mapping) else None for name in shapes}
        if missing := [name for name, tensor in found.items() if tensor is None]:
            raise self.reader.damaged(self.name, f"`{missing[0][:80]}`, which was not trained, is not in every rank")
        return {name: tensor.flatten() for name, tensor in found.items() if tensor is not None}

    def whole(self, name: str, shape: tuple[int, ...], pieces: list[Tensor]) -> Tensor:
        count = math.prod(shape)
        if sum(piece.numel() for piece in pieces) < count:
            raise self.reader.damaged(self.name, f"the ranks have less of `{name[:80]}` than its shape needs")
        flat = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return flat[:count].view(shape) if count else empty(shape)

    def in_order(self, rebuilt: dict[str, Tensor]) -> dict[str, Any]:
        """In the module's order, with buffers, and with further names of the same parameters."""
        aliases = {alias: name for alias, name in self.shared() if name in rebuilt}
        named = [name for name in self.module if isinstance(name, str)]
        rest = [name for name in named if name not in rebuilt and name not in aliases]
        self.note_copies(rest)
        found: dict[str, Any] = {}
        for name in dict.fromkeys((*named, *rebuilt, *aliases)):
            found[name] = rebuilt.get(aliases.get(name, name)) if name not in rest else self.own(name)
        return found

    def own(self, name: str) -> Any:
        """What the module's own copy has; stage 3 leaves parameters empty there."""
        value = self.module[name]
        if isinstance(value, Tensor) and value.shape == (0,):
            raise self.reader.damaged(self.name, f"no rank holds the weights of `{name[:80]}`")
        return value

    def note_copies(self, names: list[str]) -> None:
        buffers = self.model.get("buffer_names")
        known = buffers if isinstance(buffers, list) else []
        if copies := [name for name in names if name not in known]:
            why = "no rank has these in float32; they were taken from the module's own copy, e.g. " + copies[0]
            self.notes.append(Decision("weights", DecisionSource.DERIVED, f"{len(copies)} tensors", why))

    def shared(self) -> list[tuple[str, str]]:
        raw = self.model.get("shared_params")
        pairs = list(raw.items()) if isinstance(raw, Mapping) else raw if isinstance(raw, (list, tuple)) else []
        return [
            (pair[0], pair[1])
            for pair in pairs
            if isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
        ]

    def optimizer(self, states: list[RankState], groups: list[Shapes], names: list[str]) -> dict[str, Any] | None:
        """The state dict of a torch optimizer that numbers its parameters by name."""
        found = moments_of(states)
        if found is None:
            why = "the ranks hold no Adam moments that fit their weights"
            self.notes.append(Decision("optimizer", DecisionSource.DERIVED, None, why))
            return None
        moments, step = found
        cut = {slot: self.cut(states, groups, rows) for slot, rows in moments.items()}
        state = {name: {"step": step, **{slot: cut[slot][name] for slot in cut}} for name in names}
        return {"state": state, "param_groups": [{**settings_of(states[0]), "params": names}]}
