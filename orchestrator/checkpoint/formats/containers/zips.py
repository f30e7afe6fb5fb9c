"""The table of contents of a zip file and the bytes of its entries, checked before anything is unpacked.

Promises: an entry is looked at in place when it is stored and unpacked into a temporary file when it is deflated; two
entries of one name, entries beyond the file and archives that unpack to much more than their size are refused; every
deflated entry is compared with its CRC, and every stored one becomes a `Record` to be compared. A CRC of 0 means that
torch was told not to record it.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.checkpoint.formats.base import Record, SourceFile, damaged, readable_size, refuse
from orchestrator.checkpoint.formats.blob import Blob
from orchestrator.checkpoint.formats.paths import require_inside
from orchestrator.errors import RefusalReason

MAGIC = b"PK\x03\x04"
"""How a zip file with at least one entry begins."""

# what `zipfile` raises on damaged archives; NotImplementedError (a RuntimeError) for versions it does not know
_ZIP_ERRORS = (
    zipfile.BadZipFile, struct.error, EOFError, OSError, ValueError, RuntimeError, IndexError, OverflowError
)  # fmt: skip
_LOCAL_HEADER = 30
_CHUNK = 1 << 22
_SMALL = 64 << 20
_MOST_GROWTH = 20
_ENCRYPTED = 1


@dataclass(frozen=True)
class Entry:
    """One file in a zip file."""

    name: str
    """Its name, with folders."""
    header: int
    """Where its local header begins."""
    packed: int
    """Bytes in the archive."""
    size: int
    """Bytes unpacked."""
    crc: int
    """CRC-32 of the unpacked bytes; 0 when it was not recorded."""
    deflated: bool
    """Whether it must be unpacked."""
    is_link: bool = False
    """Whether it is a symbolic link."""


def entries_of(source: SourceFile) -> list[Entry] | None:
    """The table of contents; none when the file is no zip or its table is missing or broken."""
    if not source.head.startswith(MAGIC):
        return None
    try:
        with zipfile.ZipFile(source.blob.open()) as archive:
            return [_entry(info) for info in archive.infolist() if not info.is_dir()]
    except _ZIP_ERRORS:
        return None


def check_entries(source: SourceFile, entries: list[Entry]) -> None:
    """Refuse what no honest program writes.

    Raises:
        CheckpointError: `corrupt`, or `unsafe` for names and links that lead elsewhere.
    """
    for entry in entries:
        require_inside(source, entry.name)
        if entry.is_link:
            what = f"holds a link, {entry.name!r}, to a file outside of it"
            raise refuse(source, RefusalReason.UNSAFE, what, "put the file itself into the archive")
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise damaged(source, f"it has two entries of the name {twice!r}")
    require_growth(source, sum(entry.size for entry in entries))


def require_growth(source: SourceFile, unpacked: int) -> None:
    """Refuse archives that are made to fill memory or disk.

    Raises:
        CheckpointError: `corrupt`.
    """
    if unpacked > max(_SMALL, _MOST_GROWTH * source.size):
        raise damaged(source, f"it claims to unpack {readable_size(source.size)} to {readable_size(unpacked)}")


def unpack(source: SourceFile, entry: Entry) -> tuple[memoryview, Record | None]:
    """The bytes of an entry, and the checksum that is still to be compared.

    Raises:
        CheckpointError: `corrupt` or `unsupported`.
    """
    start = _data_start(source, entry)
    packed = source.blob.view[start : start + entry.packed]
    if len(packed) != entry.packed:
        raise damaged(source, f"its entry {entry.name} goes beyond its end")
    if not entry.deflated:
        if entry.packed != entry.size:
            raise damaged(source, f"its entry {entry.name} has two sizes")
        return packed, Record(entry.name, start, entry.size, entry.crc) if entry.crc else None
    blob = Blob.spooled(entry.name, _inflate(source, entry, packed))
    if blob.size != entry.size:
        raise damaged(source, f"its entry {entry.name} unpacks to {blob.size} bytes instead of {entry.size}")
    return blob.view, None


def verified(source: SourceFile, entry: Entry) -> memoryview:
    """The bytes of a small entry, compared with its checksum at once.

    Raises:
        CheckpointError: `corrupt` or `unsupported`.
    """
    view, record = unpack(source, entry)
    if record is not None and zlib.crc32(view) != record.crc:
        raise damaged(source, f"its entry {entry.name} does not match its checksum")
    return view


def _entry(info: zipfile.ZipInfo) -> Entry:
    is_link = stat.S_ISLNK(info.external_attr >> 16)
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Entry(info.filename, -1, info.compress_size, info.file_size, info.CRC, True, is_link)
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return Entry(info.filename, info.header_offset, info.compress_size, info.file_size, info.CRC, deflated, is_link)


def _data_start(source: SourceFile, entry: Entry) -> int:
    if entry.header < 0:
        what = f"has an entry, {entry.name}, that is encrypted or compressed in an unusual way"
        raise refuse(source, RefusalReason.UNSUPPORTED, what, "unpack it and give what is inside")
    header = bytes(source.blob.view[entry.header : entry.header + _LOCAL_HEADER])
    if len(header) != _LOCAL_HEADER or not header.startswith(MAGIC):
        raise damaged(source, f"its entry {entry.name} is not where the table of contents says")
    name_length, extra_length = struct.unpack("<HH", header[-4:])
    return entry.header + _LOCAL_HEADER + name_length + extra_length


def _inflate(source: SourceFile, entry: Entry, packed: memoryview) -> Iterator[bytes]:
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    crc, size = 0, 0
    try:
        for start in range(0, len(packed), _CHUNK):
            pending = bytes(packed[start : start + _CHUNK])
            while pending:
                chunk = machine.decompress(pending, _CHUNK)
                pending = machine.unconsumed_tail
                crc, size = zlib.crc32(chunk, crc), size + len(chunk)
                if size > entry.size:
                    raise damaged(source, f"its entry {entry.name} unpacks to more than it says")
                if chunk:
                    yield chunk
    except zlib.error as error:
        raise damaged(source, f"its entry {entry.name} cannot be unpacked: {error}") from error
    if entry.crc and crc != entry.crc:
        raise damaged(source, f"its entry {entry.name} does not match its checksum")
