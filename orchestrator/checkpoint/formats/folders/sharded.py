"""Weights in several files with an index beside them, as transformers and diffusers write them.

Layout: `<stem>.safetensors.index.json` or `<stem>.bin.index.json` with `weight_map`: tensor name -> file. Contract:
every file of the index is read, every tensor of the index must be in the file that it names, and no tensor in two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.checkpoint.formats.base import Contents, FolderFormat, SourceFile, refuse
from orchestrator.checkpoint.formats.folders.files import FolderReader, files_in
from orchestrator.errors import RefusalReason

ENDINGS = (".safetensors.index.json", ".bin.index.json")
"""Names of index files end so."""

_MOST_INDEX = 64 << 20


def detect(folder: Path) -> bool:
    """Whether there is an index."""
    return bool(_indexes(folder))


def read(folder: Path) -> Contents:
    """Read the weights of the index; safetensors go before pickles of the same weights."""
    found = _indexes(folder)
    safe = [name for name in found if name.endswith(ENDINGS[0])]
    if len(safe or found) > 1:
        what = f"holds the weights of several models: {', '.join(found[:6])}"
        raise refuse(folder, RefusalReason.UNSUPPORTED, what, "give the index file of the one that you mean")
    return _read_one(folder, (safe or found)[0], files_in(folder))


SHARDED = FolderFormat("sharded", detect, read)


def is_index(source: SourceFile) -> bool:
    """Whether a file is such an index, by what is in it."""
    beginning = source.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and source.size <= _MOST_INDEX
    return beginning and b'"weight_map"' in bytes(source.blob.view)


def read_index_file(path: Path) -> Contents:
    """Read the weights of an index file.

    Raises:
        CheckpointError: `corrupt` or `unsafe`.
    """
    return _read_one(path.parent, path.name, [])


def read_index(reader: FolderReader, index: str) -> dict[str, Any]:
    """The tensors by name that an index describes.

    Raises:
        CheckpointError: `corrupt` or `unsafe`.
    """
    placed = _weight_map(reader, index)
    found: dict[str, Any] = {}
    homes: dict[str, str] = {}
    for file in sorted(set(placed.values())):
        for name, tensor in reader.tensors(file).items():
            if name in found:
                raise reader.damaged(index, f"`{name[:80]}` is in two of its files, {homes[name]} and {file}")
            found[name], homes[name] = tensor, file
    for name, file in placed.items():
        if homes.get(name) != file:
            raise reader.damaged(index, f"it promises `{name[:80]}` in {file}, where it is not")
    return found


def _read_one(folder: Path, index: str, files: list[str]) -> Contents:
    reader = FolderReader(folder)
    data = read_index(reader, index)
    return reader.contents(SHARDED.name, data, notes=reader.left_out(files))


def _indexes(folder: Path) -> list[str]:
    return [name for name in files_in(folder) if name.endswith(ENDINGS)]


def _weight_map(reader: FolderReader, index: str) -> dict[str, str]:
    placed = reader.json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise reader.damaged(index, "it has no `weight_map` of tensor names and files")
    for name, file in placed.items():
        if not isinstance(file, str):
            raise reader.damaged(index, f"for `{ascii(name)[1:80]}` it should name a file, but has {ascii(file)[:80]}")
        if file == index:
            raise reader.damaged(index, f"it names itself as the file of `{ascii(name)[1:80]}`")
    return placed
