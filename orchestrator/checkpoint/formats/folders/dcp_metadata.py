"""What the `.metadata` of a torch.distributed.checkpoint folder says: which piece of which tensor is where.

It is a pickle of torch's own classes, read inert: their attributes are looked at, none of them is made. Contract: every
name, number and shape that comes out of here has been checked; the pieces of a tensor lie inside of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import torch

from orchestrator.checkpoint.formats.base import no_weights, refuse
from orchestrator.checkpoint.formats.folders.files import FolderReader, is_count, is_shape
from orchestrator.checkpoint.formats.layouts.values import describe
from orchestrator.checkpoint.formats.pickles import Global, Inert, report_names
from orchestrator.errors import CheckpointError, RefusalReason

_MODULES = ("torch.distributed.checkpoint.", "torch.distributed._shard.")
_LAYOUT = "torch.serialization._get_layout"
_DEEPEST = 32
_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
Key = tuple[str, tuple[int, ...] | None]
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where an item is stored."""

    file: str
    """Relative to the folder; not checked yet."""
    start: int
    """Its first byte."""
    length: int
    """Its bytes."""


@dataclass(frozen=True)
class Piece:
    """A block of a tensor."""

    offsets: tuple[int, ...]
    """Where it begins in the tensor."""
    shape: tuple[int, ...]
    """Its shape."""
    place: Place | None
    """Where it is stored; none when it is empty."""


@dataclass(frozen=True)
class TensorItem:
    """A tensor in one or more pieces."""

    shape: tuple[int, ...]
    """Of the whole."""
    dtype: torch.dtype
    """Of every piece."""
    pieces: tuple[Piece, ...]
    """They cover it exactly, if their number of elements is any sign."""


@dataclass(frozen=True)
class Table:
    """All of it."""

    tensors: dict[str, TensorItem]
    """By flat name."""
    objects: dict[str, Place]
    """What is no tensor, by flat name."""
    paths: dict[str, Path]
    """Flat name -> keys and list positions, one below the other."""


def read_table(reader: FolderReader, name: str) -> Table:
    """Read and check the metadata.

    Raises:
        CheckpointError: `corrupt`; `unsafe` when it is no metadata, but a payload; `unsupported`.
    """
    return _Reader(reader, name).table()


class _Reader:
    def __init__(self, reader: FolderReader, name: str) -> None:
        self.reader = reader
        self.name = name

    def table(self) -> Table:
        before = self.reader.names
        self.reader.names = set()
        data = self.reader.object(self.name)
        names, self.reader.names = self.reader.names, before
        if not _is_a(data, "Metadata"):
            raise no_weights(self.reader.folder, f"for its metadata {describe(data)}", report_names(names))
        before |= {found for found in names if not found.startswith(_MODULES) and found != _LAYOUT}  # understood here
        values = data.attributes()
        described = self.named(values.get("state_dict_metadata"), "state_dict_metadata")
        places = self.places(self.named(values.get("storage_data"), "storage_data"))
        tensors = {n: self.tensor(n, item, places) for n, item in described.items() if _is_a(item, "Tensor")}
        objects = {n: self.place_of(places, (n, None)) for n, item in described.items() if _is_a(item, "Bytes")}
        if odd := next((n for n in described if n not in tensors and n not in objects), None):
            raise self.broken(f"it describes `{odd[:80]}` as {describe(described[odd])}")
        return Table(tensors, objects, self.paths(values.get("planner_data"), described))

    def named(self, value: Any, what: str) -> dict[str, Any]:
        if not isinstance(value, dict) or (what == "state_dict_metadata" and not all(map(_is_name, value))):
            raise self.broken(f"its `{what}` is no dict by names")
        return value

    def places(self, raw: Mapping[Any, Any]) -> dict[Key, Place]:
        found: dict[Key, Place] = {}
        for index, info in raw.items():
            if not isinstance(index, Inert) or not isinstance(info, Inert):
                raise self.broken("its table of places holds something else")
            key = self.key(index.attributes())
            if key in found:
                raise self.broken(f"it has two places for a piece of `{key[0][:80]}`")
            found[key] = self.place(key[0], info.attributes())
        self.require_apart(found)
        return found

    def key(self, values: Mapping[str, Any]) -> Key:
        name, offset = values.get("fqn"), values.get("offset")
        if not isinstance(name, str) or (offset is not None and not is_shape(offset)):
            raise self.broken("its table of places has an entry without a name or with a wrong offset")
        return name, None if offset is None else tuple(offset)

    def place(self, name: str, values: Mapping[str, Any]) -> Place:
        if values.get("transform_descriptors"):
            what = f"holds `{name[:80]}` transformed ({str(values['transform_descriptors'])[:60]})"
            hint = "save it again without stream transforms (compression, encryption)"
            raise refuse(self.reader.folder, RefusalReason.UNSUPPORTED, what, hint)
        file, start, length = (values.get(key) for key in ("relative_path", "offset", "length"))
        one_way = isinstance(file, str) and PurePosixPath(file).as_posix() == file  # so that places can be compared
        if not isinstance(file, str) or not one_way or not is_count(start) or not is_count(length):
            raise self.broken(f"it does not say where `{name[:80]}` is")
        return Place(file, start, length)

    def require_apart(self, places: Mapping[Key, Place]) -> None:
        """Items that share bytes could describe more data than there is."""
        ends: dict[str, int] = {}
        for place in sorted(places.values(), key=lambda place: (place.file, place.start)):
            if place.start < ends.get(place.file, 0):
                raise self.broken(f"two of its items overlap in {place.file[:80]}")
            ends[place.file] = place.start + place.length

    def place_of(self, places: Mapping[Key, Place], key: Key) -> Place:
        if key not in places:
            raise self.broken(f"it describes `{key[0][:80]}`, but does not say where it is")
        return places[key]

    def tensor(self, name: str, item: Inert, places: Mapping[Key, Place]) -> TensorItem:
        values = item.attributes()
        shape, raw = values.get("size"), values.get("chunks")
        dtype = _dtype(values.get("properties"))
        if not is_shape(shape) or not isinstance(raw, list) or dtype is None:
            raise self.broken(f"it describes the tensor `{name[:80]}` without shape, type or pieces")
        pieces = tuple(self.piece(name, tuple(shape), chunk, places) for chunk in raw)
        if sum(math.prod(piece.shape) for piece in pieces) != math.prod(shape):
            raise self.broken(f"the pieces of `{name[:80]}` do not cover its shape {list(shape)[:8]}")
        return TensorItem(tuple(shape), dtype, pieces)

    def piece(self, name: str, whole: tuple[int, ...], chunk: Any, places: Mapping[Key, Place]) -> Piece:
        values = chunk.attributes() if isinstance(chunk, Inert) else {}
        offsets, shape = values.get("offsets"), values.get("sizes")
        if not is_shape(offsets) or not is_shape(shape) or not len(offsets) == len(shape) == len(whole):
            raise self.broken(f"it describes a piece of `{name[:80]}` wrongly")
        if any(start + count > most for start, count, most in zip(offsets, shape, whole, strict=True)):
            raise self.broken(f"a piece of `{name[:80]}` lies outside of its shape {list(whole)[:8]}")
        place = self.place_of(places, (name, tuple(offsets))) if math.prod(shape) else None
        return Piece(tuple(offsets), tuple(shape), place)

    def paths(self, raw: Any, described: Mapping[str, Any]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for name in described:
            path = raw.get(name, (name,)) if isinstance(raw, dict) else (name,)
            good = isinstance(path, (tuple, list)) and 0 < len(path) <= _DEEPEST and isinstance(path[0], str)
            if not good or not all(isinstance(key, str) or is_count(key, 1 << 32) for key in path):
                raise self.broken(f"it does not say where `{name[:80]}` belongs")
            found[name] = tuple(path)
        return found

    def broken(self, how: str) -> CheckpointError:
        return self.reader.damaged(self.name, how)


def _is_a(value: Any, kind: str) -> bool:
    """Whether an inert object is of torch's class of this name: `Metadata`, `TensorStorageMetadata`, ..."""
    if not isinstance(value, Inert) or not str(value.origin).startswith(_MODULES):
        return False
    return value.origin.name in (kind, f"{kind}StorageMetadata")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) < 4096


def _dtype(properties: Any) -> torch.dtype | None:
    """The first of the properties' state; by name in older files."""
    state = properties.state if isinstance(properties, Inert) else None
    first = state[0] if isinstance(state, tuple) and state else None
    if isinstance(state, dict):
        first = state.get("dtype")
    return _DTYPES.get(str(first)) if isinstance(first, Global) else None
