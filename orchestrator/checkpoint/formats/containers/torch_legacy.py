"""The files of `torch.save` before torch 1.6, and of `_use_new_zipfile_serialization=False` since.

Five pickles after one another (magic number, protocol, system, object, storage keys), then for each key a count and the
bytes. The object comes before the bytes that it refers to, so it is read twice: once for the references, once for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.checkpoint.formats.base import Container, Contents, Part, SourceFile, damaged, readable_size, refuse
from orchestrator.checkpoint.formats.containers.storages import load_storage
from orchestrator.checkpoint.formats.pickles import (
    BrokenPickle,
    Storage,
    aligned,
    read,
    references,
    report_names,
    storage_dtype,
)
from orchestrator.errors import RefusalReason

# the number 0x1950a86a20f9469cfc6c, with which torch begins such files, as protocol 2 and later pickle it
_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
_MAGIC_TEXT = b"119547037146038801333356"
_COUNT = 8


def detect(source: SourceFile) -> bool:
    """Whether the file begins with torch's magic number, whichever pickle protocol wrote it."""
    return _MAGIC in source.head[:32] or _MAGIC_TEXT in source.head[:32]


def read_legacy(source: SourceFile) -> Contents:
    """Read the object; its tensors look into the file."""
    names: set[str] = set()
    stream = source.blob.open()
    try:
        _, _, system = (read(stream, names) for _ in range(3))
        if isinstance(system, dict) and system.get("little_endian") is False:
            what = "was written on a big-endian machine"
            raise refuse(source, RefusalReason.UNSUPPORTED, what, "save it again on the machine it came from")
        place = stream.tell()
        wanted = references(stream)
        keys = read(stream, names)
        storages = _storages(source, wanted, keys, stream.tell())
        data = read(source.blob.open(place), names, storages.find, load_storage)
    except BrokenPickle as error:
        raise damaged(source, f"its pickles are cut short or broken ({error})") from error
    return Contents(TORCH_LEGACY.name, data, (Part(source.blob),), placeholders=report_names(names))


TORCH_LEGACY = Container("torch-legacy", detect, read_legacy)


@dataclass(frozen=True)
class _Storages:
    """The storages of a file by key."""

    by_key: dict[str, Storage]

    def find(self, reference: Any) -> Any:
        """What a reference stands for: ("storage", type, key, location, count, view), or a module's source code."""
        if isinstance(reference, tuple) and reference and reference[0] == "module":
            return reference[1]  # the class of a pickled module; its source code is beside it and is left there
        kind, key, view = _reference(reference)
        storage = self.by_key[key]
        if view is None:
            return storage
        _, offset, count = view
        start, size = offset * storage.dtype.itemsize, count * storage.dtype.itemsize
        if not 0 <= start <= start + size <= len(storage.view):
            raise BrokenPickle("a view of a storage looks beyond it")
        return Storage(storage.view[start : start + size], storage_dtype(kind))


def _storages(source: SourceFile, wanted: list[Any], keys: Any, start: int) -> _Storages:
    """Follow the bytes behind the pickles."""
    kinds: dict[str, Any] = {}
    for reference in wanted:
        if isinstance(reference, tuple) and reference and reference[0] == "module":
            continue
        kind, key, _ = _reference(reference)
        kinds.setdefault(key, kind)
    if not isinstance(keys, list) or set(map(str, keys)) != set(kinds) or len(keys) != len(kinds):
        raise BrokenPickle("the list of storages does not belong to the object")
    found: dict[str, Storage] = {}
    for key in map(str, keys):
        dtype = storage_dtype(kinds[key])
        count = int.from_bytes(source.blob.view[start : start + _COUNT], "little")
        start += _COUNT
        view = source.blob.view[start : start + count * dtype.itemsize]
        if len(view) != count * dtype.itemsize:
            missing = readable_size(count * dtype.itemsize - len(view))
            raise damaged(source, f"{readable_size(source.size)} are here, but {missing} of storage {key} are missing")
        found[key] = Storage(aligned(view, dtype), dtype)
        start += len(view)
    return _Storages(found)


def _reference(reference: Any) -> tuple[Any, str, Any]:
    """(type, key, view) of a storage."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise BrokenPickle("a reference is not to a storage")
    view = reference[5] if len(reference) == 6 else None
    if view is not None and not (isinstance(view, tuple) and len(view) == 3 and all(_is_count(n) for n in view[1:])):
        raise BrokenPickle("a reference is to no view of a storage")
    return reference[1], str(reference[2]), view


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0
