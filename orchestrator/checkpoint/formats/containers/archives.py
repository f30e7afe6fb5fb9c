"""A checkpoint inside an archive: gzip, bzip2 or xz of one file, zip or tar of one file or folder.

Promises: nothing is written where a person could see it; what unpacks to much more than its size, lies in archives
within archives, or leads out of its folder is refused; README files and the leftovers of file managers are no obstacle.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.checkpoint.formats.base import Container, Contents, Part, SourceFile, damaged, refuse
from orchestrator.checkpoint.formats.blob import Blob
from orchestrator.checkpoint.formats.containers.tars import bytes_of, is_tar, members_of
from orchestrator.checkpoint.formats.containers.zips import check_entries, entries_of, require_growth, verified
from orchestrator.errors import CheckpointError, RefusalReason

_DEEPEST = 3
_CHUNK = 1 << 22
_PACKED: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMAFile),
}
_UNPACK_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, RuntimeError)
_ENDINGS = (".gz", ".bz2", ".xz")
_BESIDE = (".txt", ".md", ".rst", ".pdf", ".png", ".jpg", ".py", ".csv", ".log")


def make_archives(
    read_source: Callable[[SourceFile], Contents], read_folder: Callable[[Path], Contents]
) -> tuple[Container, ...]:
    """The containers that hold others; what is inside is read by the given functions."""

    def read_packed(source: SourceFile) -> Contents:
        name, opener = _packed(source)
        inner = source.name.removesuffix(next((e for e in _ENDINGS if source.name.endswith(e)), ""))
        blob = Blob.spooled(f"{inner} (in {source.name})", _unpacked(source, name, opener))
        return _inside(source, blob, name, read_source)

    def read_files(source: SourceFile) -> Contents:
        kind, files = _files(source)
        members = {path: view for path, view in files.items() if _matters(path)}
        if not members:
            what = f"is a {kind} archive that holds {', '.join(files) or 'nothing'}"
            raise refuse(source, RefusalReason.NOT_A_CHECKPOINT, what, "give the file with the weights")
        if len(members) == 1:
            [(path, view)] = members.items()
            blob = Blob.spooled(f"{PurePosixPath(path).name} (in {source.name})", _chunks(view))
            return _inside(source, blob, kind, read_source)
        return _folder_inside(source, members, kind, read_folder)

    return (
        Container("packed", lambda source: any(source.head.startswith(magic) for magic in _PACKED), read_packed),
        Container("archive", lambda source: is_tar(source) or entries_of(source) is not None, read_files),
    )


def _inside(source: SourceFile, blob: Blob, kind: str, read: Callable[[SourceFile], Contents]) -> Contents:
    if source.depth >= _DEEPEST:
        raise damaged(source, f"it is an archive in an archive, more than {_DEEPEST} deep")
    return _wrapped(source, read(SourceFile(source.path, blob, source.depth + 1)), kind)


def _folder_inside(
    source: SourceFile, members: Mapping[str, memoryview], kind: str, read: Callable[[Path], Contents]
) -> Contents:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / source.name
        for path, view in members.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(view)
        while len(inside := list(root.iterdir())) == 1 and inside[0].is_dir():
            root = inside[0]
        try:
            return _wrapped(source, read(root), kind)  # tensors keep looking into files that have no name any more
        except CheckpointError as error:
            error.path = str(source.path)
            raise


def _wrapped(source: SourceFile, contents: Contents, kind: str) -> Contents:
    inner = tuple(replace(part, outer=False) for part in contents.parts)
    return replace(contents, container=f"{contents.container} in {kind}", parts=(Part(source.blob), *inner))


def _packed(source: SourceFile) -> tuple[str, Callable[[Any], Any]]:
    return next(found for magic, found in _PACKED.items() if source.head.startswith(magic))


def _unpacked(source: SourceFile, name: str, opener: Callable[[Any], Any]) -> Iterator[bytes]:
    size = 0
    try:
        with opener(source.blob.open()) as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                require_growth(source, size)
                yield chunk
    except _UNPACK_ERRORS as error:
        raise damaged(source, f"it cannot be unpacked as {name}: {error}") from error


def _files(source: SourceFile) -> tuple[str, dict[str, memoryview]]:
    """The kind of archive and what is in it."""
    entries = entries_of(source)
    if entries is None:
        return "tar", {member.name: bytes_of(source, member) for member in members_of(source)}
    check_entries(source, entries)
    return "zip", {entry.name: verified(source, entry) for entry in entries}


def _matters(path: str) -> bool:
    name = PurePosixPath(path).name
    hidden = name.startswith("._") or name == ".DS_Store" or "__MACOSX" in path
    return not hidden and not name.lower().endswith(_BESIDE) and not name.upper().startswith(("README", "LICENSE"))


def _chunks(view: memoryview) -> Iterator[bytes]:
    for start in range(0, len(view), _CHUNK):
        yield bytes(view[start : start + _CHUNK])
