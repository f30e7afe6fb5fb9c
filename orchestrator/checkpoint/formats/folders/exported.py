"""Programs of `torch.export.save` (`.pt2`), unpacked: what the weights of such an archive look like as a folder.

Layout: `archive_format` says `pt2`; `data/weights/model_weights_config.json` names every tensor, its type, shape and
strides, and the file with its bytes. Older programs hold one `serialized_state_dict.pt` instead. Only weights are read,
nothing of the program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.formats.base import Contents, FolderFormat, refuse
from orchestrator.checkpoint.formats.folders.files import FolderReader, files_in, is_shape
from orchestrator.checkpoint.formats.pickles import BrokenPickle, Storage, aligned
from orchestrator.checkpoint.formats.pickles.tensors import rebuild_tensor
from orchestrator.errors import CheckpointError, RefusalReason

_FORMAT = "archive_format"
_WEIGHTS = "data/weights/"
_ENDING = "_weights_config.json"
_OLD = "serialized_state_dict.pt"
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip


def detect(folder: Path) -> bool:
    """Whether it is marked as an exported program."""
    files = files_in(folder)
    if _OLD in files and "serialized_exported_program.json" in files:
        return True
    return _FORMAT in files and (folder / _FORMAT).stat().st_size < 64 and (folder / _FORMAT).read_bytes() == b"pt2"


def read(folder: Path) -> Contents:
    """Read the weights."""
    reader = FolderReader(folder)
    data = reader.tensors(_OLD) if _OLD in files_in(folder) else _weights(reader)
    return reader.contents(EXPORTED.name, data)


EXPORTED = FolderFormat("torch-export", detect, read)


def _weights(reader: FolderReader) -> dict[str, Any]:
    place = reader.folder / _WEIGHTS
    configs = [name for name in files_in(place) if name.endswith(_ENDING)] if place.is_dir() else []
    if len(configs) != 1:
        what = f"is an exported program with {len(configs)} lists of weights, where one was expected"
        raise refuse(reader.folder, RefusalReason.UNSUPPORTED, what, "export the network alone, or save its state dict")
    if "byteorder" in files_in(reader.folder) and reader.text("byteorder") != "little":
        what = "was written on a big-endian machine"
        raise refuse(reader.folder, RefusalReason.UNSUPPORTED, what, "save it again on the machine it came from")
    config = f"{_WEIGHTS}{configs[0]}"
    listed = reader.json(config).get("config")
    if not isinstance(listed, dict):
        raise reader.damaged(config, "it lists no weights")
    return {name: _tensor(reader, config, name, entry) for name, entry in listed.items()}


def _tensor(reader: FolderReader, config: str, name: str, entry: Any) -> Tensor:
    file = entry.get("path_name") if isinstance(entry, dict) else None
    if not isinstance(file, str):
        raise reader.damaged(config, f"it does not say where `{name[:80]}` is")
    if entry.get("use_pickle") is not False:
        value = reader.object(f"{_WEIGHTS}{file}")
        if isinstance(value, Tensor):
            return value
        raise reader.damaged(f"{_WEIGHTS}{file}", f"it should hold the tensor `{name[:80]}`")
    return _looked_at(reader, config, name, f"{_WEIGHTS}{file}", entry.get("tensor_meta"))


def _looked_at(reader: FolderReader, config: str, name: str, file: str, meta: Any) -> Tensor:
    """A tensor that looks into the bytes of its file."""
    described = meta if isinstance(meta, dict) else {}
    shape, stride = _numbers(described.get("sizes")), _numbers(described.get("strides"))
    offset = _numbers([described.get("storage_offset")])
    kind = described.get("dtype")
    dtype = _DTYPES.get(kind) if isinstance(kind, int) else None
    if dtype is None or shape is None or stride is None or offset is None:
        raise _described_wrongly(reader, config, name)
    try:
        storage = Storage(aligned(reader.blob(file).view, dtype), dtype)
        value = rebuild_tensor(storage, offset[0], shape, stride)
    except BrokenPickle as error:
        raise reader.damaged(file, f"it does not hold `{name[:80]}` as {config} describes it ({error})") from error
    if not isinstance(value, Tensor):
        raise _described_wrongly(reader, config, name)
    return value


def _described_wrongly(reader: FolderReader, config: str, name: str) -> CheckpointError:
    return reader.damaged(config, f"it describes `{name[:80]}` wrongly, or as a type that is not read")


def _numbers(values: Any) -> tuple[int, ...] | None:
    """Of a list of `{"as_int": 3}`; symbolic sizes are not read."""
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        return None
    found = [value.get("as_int") for value in values]
    return tuple(found) if is_shape(found) else None
