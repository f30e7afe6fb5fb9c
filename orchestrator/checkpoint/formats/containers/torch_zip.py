"""The zip files of `torch.save` (torch 1.6 and later) and of TorchScript.

A `data.pkl` (the object) and `data/0`, `data/1`, ... (the tensors' bytes), in one folder of the zip or at its top; a
TorchScript program has `constants.pkl` and `code/` beside them, of which nothing is read. Promises: the object is read
by the inert reader, tensors look into the file; every record is compared with its CRC, which torch itself never does.
"""

from __future__ import annotations

import io
from typing import Any

from orchestrator.checkpoint.formats.base import (
    Container,
    Contents,
    Part,
    Record,
    SourceFile,
    damaged,
    readable_size,
)
from orchestrator.checkpoint.formats.containers.storages import load_storage
from orchestrator.checkpoint.formats.containers.zips import MAGIC, Entry, check_entries, entries_of, unpack, verified
from orchestrator.checkpoint.formats.pickles import (
    BrokenPickle,
    Storage,
    aligned,
    read,
    references,
    report_names,
    storage_dtype,
    swapped,
)

_MOST_PICKLE = 256 << 20
_LOCAL_HEADER = 30
_SHORT = 64


def detect(source: SourceFile) -> bool:
    """Whether it is a zip with a `data.pkl`, or begins like one and has lost its end."""
    entries = entries_of(source)
    if entries is None:
        return source.head.startswith(MAGIC)
    return any(_is_pickle(entry.name) for entry in entries)


def read_zip(source: SourceFile) -> Contents:
    """Read the object; its tensors look into the file."""
    entries = entries_of(source)
    if entries is None:
        what = "it begins like a torch file, but the table of contents at its end is missing or broken"
        raise damaged(source, f"{what}; {_how_much_is_here(source)}")
    check_entries(source, entries)
    archive = _Archive(source, entries)
    names: set[str] = set()
    pickled = verified(source, archive.pickle)
    if len(pickled) > _MOST_PICKLE:
        raise damaged(source, f"its data.pkl has {readable_size(len(pickled))}")
    try:
        with source.blob.scattered():  # each storage has a header of its own
            data = read(io.BytesIO(pickled), names, archive.storage, load_storage)
    except BrokenPickle as error:
        raise damaged(source, f"its data.pkl is no whole pickle ({error})") from error
    records = tuple(sorted(archive.records.values(), key=lambda record: record.start))
    kind = "torchscript" if archive.is_script else TORCH_ZIP.name
    return Contents(kind, data, (Part(source.blob, records),), placeholders=report_names(names))


TORCH_ZIP = Container("torch-zip", detect, read_zip)


class _Archive:
    """The entries by name, and the storages that were asked for."""

    def __init__(self, source: SourceFile, entries: list[Entry]) -> None:
        self.source = source
        self.entries = {entry.name: entry for entry in entries}
        self.pickle = self._the_pickle()
        self.root = self.pickle.name.removesuffix("data.pkl")
        self.is_script = f"{self.root}constants.pkl" in self.entries
        self.records: dict[str, Record] = {}
        self.views: dict[str, memoryview] = {}
        self.is_big_endian = self._note("byteorder") == b"big"

    def storage(self, reference: Any) -> Storage:
        """What a reference in the object stands for: ("storage", type, key, location, count)."""
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise BrokenPickle("a reference is not to a storage")
        _, kind, key, _, count = reference[:5]
        dtype = storage_dtype(kind)
        if not isinstance(key, str) or not isinstance(count, int):
            raise BrokenPickle("a reference to a storage has no key or no size")
        if key not in self.views:
            self.views[key] = self._bytes(key)
        if len(self.views[key]) < count * dtype.itemsize:
            there = len(self.views[key])
            raise damaged(self.source, f"storage {key} has {there} bytes, but should have {count * dtype.itemsize}")
        if self.is_big_endian:
            return Storage(swapped(self.views[key], dtype), dtype)
        return Storage(aligned(self.views[key], dtype), dtype)

    def _bytes(self, key: str) -> memoryview:
        name = f"{self.root}data/{key}"
        if name not in self.entries:
            raise damaged(self.source, f"its entry {name} is missing")
        view, record = unpack(self.source, self.entries[name])
        if record is not None:
            self.records[name] = record
        return view

    def _the_pickle(self) -> Entry:
        # torch looks names up without regard to case; a second spelling must not hide from anybody
        pickles = [entry for name, entry in self.entries.items() if _is_pickle(name)]
        if len(pickles) != 1:
            raise damaged(self.source, f"it holds {len(pickles)} objects: {', '.join(e.name for e in pickles[:3])}")
        return pickles[0]

    def _note(self, name: str) -> bytes:
        """A small entry beside the object; empty when there is none."""
        entry = self.entries.get(f"{self.root}{name}")
        return bytes(verified(self.source, entry)[:_SHORT]) if entry is not None else b""


def _is_pickle(name: str) -> bool:
    return name.lower().rpartition("/")[2] == "data.pkl" and name.count("/") <= 1


def _how_much_is_here(source: SourceFile) -> str:
    """The object pickle comes first and tells the size of every tensor, so that it often outlives a cut."""
    here = f"{readable_size(source.size)} are here"
    name_length, extra_length = (int.from_bytes(source.head[at : at + 2], "little") for at in (26, 28))
    start = _LOCAL_HEADER + name_length
    if not source.head[_LOCAL_HEADER:start].endswith(b"data.pkl"):
        return here
    try:
        found = references(source.blob.open(start + extra_length))
        sizes = {str(key): storage_dtype(kind).itemsize * int(count) for _, kind, key, _, count in found}
    except (BrokenPickle, ValueError, TypeError):
        return here
    expected = sum(sizes.values())
    if expected <= source.size:
        return here
    return f"{here}, but its tensors alone have {readable_size(expected)}: the download or copy stopped early"
