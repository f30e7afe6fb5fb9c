"""The tar files of `torch.save` before torch 0.1.10.

Four members: `sys_info`; `storages` (a count, then for each storage a pickled (key, location, type), a count and the
bytes, then the pickled list of views); `tensors` (a count, then for each a pickled (key, storage key, type), the number
of dimensions, sizes, strides and the offset); `pickle`, the object, which refers to tensors by their keys.
"""

from __future__ import annotations

import tarfile
from typing import Any

from orchestrator.checkpoint.formats.base import Container, Contents, Part, SourceFile, damaged
from orchestrator.checkpoint.formats.containers.storages import load_storage
from orchestrator.checkpoint.formats.containers.tars import is_tar, members_of
from orchestrator.checkpoint.formats.pickles import BrokenPickle, Storage, aligned, read, report_names, storage_dtype
from orchestrator.checkpoint.formats.pickles.tensors import rebuild_tensor

_MEMBERS = {"sys_info", "pickle", "storages", "tensors"}
_MOST_DIMENSIONS = 64


def detect(source: SourceFile) -> bool:
    """Whether it is a tar file with torch's four members."""
    return is_tar(source) and {m.name.removeprefix("./") for m in members_of(source)} >= _MEMBERS


def read_tar(source: SourceFile) -> Contents:
    """Read the object; its tensors look into the file."""
    places = {member.name.removeprefix("./"): member for member in members_of(source)}
    names: set[str] = set()
    try:
        reader = _Reader(source, places, names)
        storages = reader.storages()
        made = {**storages, **reader.tensors(storages)}
        data = read(reader.open("pickle"), names, lambda reference: _find(made, reference), load_storage)
    except BrokenPickle as error:
        raise damaged(source, f"its pickles are cut short or broken ({error})") from error
    return Contents(TORCH_TAR.name, data, (Part(source.blob),), placeholders=report_names(names))


TORCH_TAR = Container("torch-tar", detect, read_tar)


class _Reader:
    """The members of one file."""

    def __init__(self, source: SourceFile, places: dict[str, tarfile.TarInfo], names: set[str]) -> None:
        self.source = source
        self.places = places
        self.names = names

    def open(self, name: str) -> Any:
        """A member as a file that begins with it; it does not end where the member ends, but tar pads with zeros."""
        return self.source.blob.open(self.places[name].offset_data)

    def storages(self) -> dict[str, Storage]:
        stream = self.open("storages")
        found: dict[str, Storage] = {}
        for _ in range(_whole(read(stream, self.names))):
            key, _location, kind = _triple(read(stream, self.names))
            dtype = storage_dtype(kind)
            count = int.from_bytes(stream.read(8), "little")
            start = stream.tell()
            view = self.source.blob.view[start : start + count * dtype.itemsize]
            if len(view) != count * dtype.itemsize:
                raise damaged(self.source, f"storage {key} in it is cut short")
            found[str(key)] = Storage(aligned(view, dtype), dtype)
            stream.seek(start + len(view))
        for view_of in read(stream, self.names) or []:
            target, root, offset, size = (*view_of,) if isinstance(view_of, tuple) else (None,) * 4
            base = found[str(root)]
            start, end = _whole(offset) * base.dtype.itemsize, (_whole(offset) + _whole(size)) * base.dtype.itemsize
            found[str(target)] = Storage(base.view[start:end], base.dtype)
        return found

    def tensors(self, storages: dict[str, Storage]) -> dict[str, Any]:
        stream = self.open("tensors")
        found: dict[str, Any] = {}
        for _ in range(_whole(read(stream, self.names))):
            key, storage, _kind = _triple(read(stream, self.names))
            dimensions = int.from_bytes(stream.read(4), "little")
            stream.read(4)
            if dimensions > _MOST_DIMENSIONS or str(storage) not in storages:
                raise BrokenPickle("a tensor has no shape or no storage")
            numbers = [int.from_bytes(stream.read(8), "little") for _ in range(2 * dimensions + 1)]
            shape, stride = tuple(numbers[:dimensions]), tuple(numbers[dimensions:-1])
            found[str(key)] = rebuild_tensor(storages[str(storage)], numbers[-1], shape, stride)
        return found


def _find(made: dict[str, Any], reference: Any) -> Any:
    """A tensor or storage by its key; the class of a pickled module, whose source code stays where it is."""
    if isinstance(reference, tuple) and reference:
        return reference[0]
    if str(reference) not in made:
        raise BrokenPickle(f"it refers to {str(reference)[:40]}, which is not there")
    return made[str(reference)]


def _triple(value: Any) -> tuple[Any, Any, Any]:
    if not isinstance(value, tuple) or len(value) != 3:
        raise BrokenPickle("a description of a tensor or storage is no triple")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise BrokenPickle("a count is missing")
    return value
