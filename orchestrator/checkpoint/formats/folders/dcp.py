"""Folders of torch.distributed.checkpoint: `.metadata` and `__<rank>_<n>.distcp`, saved by one process or many.

Every item of a `.distcp` file is a torch file of its own, at the place that the metadata gives. Contract: each is read
by the inert reader; a tensor is put together from its pieces only when they cover it exactly, none of them twice; a
tensor in one piece is not copied. Nested dicts and lists come back as they were saved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.formats.base import Contents, FolderFormat
from orchestrator.checkpoint.formats.containers.plain_pickle import PLAIN_PICKLE
from orchestrator.checkpoint.formats.containers.torch_legacy import TORCH_LEGACY
from orchestrator.checkpoint.formats.containers.torch_zip import TORCH_ZIP
from orchestrator.checkpoint.formats.folders.dcp_metadata import Piece, Place, TensorItem, read_table
from orchestrator.checkpoint.formats.folders.files import FolderReader, files_in, one_of
from orchestrator.checkpoint.formats.folders.flat import empty
from orchestrator.checkpoint.formats.layouts.values import describe

METADATA = ".metadata"
"""The file that describes all others."""

_ENDING = ".distcp"
_MARK = b"torch.distributed.checkpoint"
_WEIGHTS = ("model", "state_dict", "model_state_dict")
_read_item = one_of(TORCH_ZIP, TORCH_LEGACY, PLAIN_PICKLE)


def detect(folder: Path) -> bool:
    """Whether there are files of such a folder, or metadata that names torch's classes."""
    files = files_in(folder)
    if any(name.endswith(_ENDING) for name in files):
        return True
    if METADATA not in files:
        return False
    with (folder / METADATA).open("rb") as file:
        return _MARK in file.read(4096)


def read(folder: Path) -> Contents:
    """Read every item."""
    reader = FolderReader(folder)
    data = read_items(reader)
    return reader.contents(DCP.name, data)


DCP = FolderFormat("torch-dcp", detect, read)


def read_items(reader: FolderReader, prefix: str = "") -> dict[str, Any]:
    """What was saved, in a folder or in one of its folders.

    Args:
        reader: reads files.
        prefix: name of the inner folder, with a slash.

    Raises:
        CheckpointError: it is refused.
    """
    table = read_table(reader, f"{prefix}{METADATA}")
    items = _Items(reader, prefix)
    values: dict[str, Any] = {name: items.tensor(name, item) for name, item in table.tensors.items()}
    values |= {name: items.object(place) for name, place in table.objects.items()}
    tree: dict[Any, Any] = {}
    for name, path in table.paths.items():
        _put(reader, prefix, tree, path, values[name])
    return _application(_settled(tree))


class _Items:
    """The items of one folder."""

    def __init__(self, reader: FolderReader, prefix: str) -> None:
        self.reader = reader
        self.prefix = prefix

    def object(self, place: Place) -> Any:
        return self.reader.slice(f"{self.prefix}{place.file}", place.start, place.length, _read_item)

    def tensor(self, name: str, item: TensorItem) -> Tensor:
        stored = [(piece, self.piece(name, item, piece)) for piece in item.pieces if math.prod(piece.shape)]
        if not stored:
            return empty(item.shape, item.dtype)
        first, tensor = stored[0]
        if first.shape == item.shape:
            return tensor
        whole, seen = torch.empty(item.shape, dtype=item.dtype), torch.zeros(item.shape, dtype=torch.bool)
        for piece, tensor in stored:
            block = tuple(slice(at, at + n) for at, n in zip(piece.offsets, piece.shape, strict=True))
            whole[block] = tensor
            seen[block] = True
        if not bool(seen.all()):  # their sizes add up, so a gap is an overlap elsewhere
            raise self.reader.damaged(f"{self.prefix}{METADATA}", f"the pieces of `{name[:80]}` overlap")
        return whole

    def piece(self, name: str, item: TensorItem, piece: Piece) -> Tensor:
        assert piece.place is not None  # only empty pieces have none
        value = self.object(piece.place)
        what = f"a piece of `{name[:80]}` should be a tensor of shape {list(piece.shape)[:8]} and type {item.dtype}"
        if not isinstance(value, Tensor) or tuple(value.shape) != piece.shape or value.dtype != item.dtype:
            found = f"{describe(value)} and type {value.dtype}" if isinstance(value, Tensor) else describe(value)
            raise self.reader.damaged(f"{self.prefix}{piece.place.file}", f"{what}, but is {found}")
        if value.numel() * value.element_size() > piece.place.length:  # one number shown many times
            raise self.reader.damaged(f"{self.prefix}{piece.place.file}", f"{what}, but is shorter than that")
        return value


def _put(reader: FolderReader, prefix: str, tree: dict[Any, Any], path: tuple[Any, ...], value: Any) -> None:
    """Set a value below keys and list positions; lists are dicts by number for now."""
    for key in path[:-1]:
        tree = tree.setdefault(key, _Node())
        if not isinstance(tree, _Node):
            raise reader.damaged(f"{prefix}{METADATA}", f"`{str(key)[:80]}` is a value and holds others too")
    if path[-1] in tree:
        raise reader.damaged(f"{prefix}{METADATA}", f"`{str(path[-1])[:80]}` is in it twice")
    tree[path[-1]] = value


class _Node(dict[Any, Any]):
    """A dict or list that the metadata describes, as opposed to a dict that was saved as one item."""


def _settled(node: Mapping[Any, Any], name: Any = None) -> Any:
    """Lists where all keys are positions; the numbers of an optimizer's parameters as numbers again."""
    values = {key: _settled(value, key) if isinstance(value, _Node) else value for key, value in node.items()}
    if values and all(isinstance(key, int) for key in values):
        return [values[position] for position in sorted(values)]
    if name == "state" and all(map(_is_number, values)):
        return {int(key): value for key, value in values.items()}
    return values


def _is_number(key: Any) -> bool:
    return isinstance(key, str) and key.isdecimal() and len(key) < 10 and str(int(key)) == key


def _application(data: dict[str, Any]) -> dict[str, Any]:
    """Without the one key under which an application keeps all its state."""
    inner = next(iter(data.values())) if len(data) == 1 else None
    if isinstance(inner, dict) and any(isinstance(inner.get(key), dict) for key in _WEIGHTS):
        return inner
    return data
