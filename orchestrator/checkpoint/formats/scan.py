"""One pass over the files of a checkpoint: who they are, and whether their recorded checksums hold.

Contract: the digest of a single file is its sha256; of a folder, the sha256 of its files' names and digests, in order.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.checkpoint.formats.base import Part, damaged

_CHUNK = 1 << 23


@dataclass(frozen=True)
class Identity:
    """Which bytes a checkpoint consisted of."""

    sha256: str
    """Digest of the file, or of all files of the folder."""
    size: int
    """Bytes of all files together."""


def scan(path: Path, parts: Sequence[Part]) -> Identity:
    """Read every byte once.

    Raises:
        CheckpointError: `corrupt`, when a checksum does not hold.
    """
    for part in parts:
        part.blob.prefetch()  # whoever reads values meanwhile reads them in another order
    digests = [(part, _scan_part(path, part)) for part in parts]
    outer = [(part.blob.name, digest) for part, digest in digests if part.outer]
    if len(outer) == 1:
        return Identity(outer[0][1], size_of(parts))
    lines = "".join(f"{digest}  {name}\n" for name, digest in outer)
    return Identity(hashlib.sha256(lines.encode()).hexdigest(), size_of(parts))


def size_of(parts: Sequence[Part]) -> int:
    """Bytes of all files together, without reading them."""
    return sum(part.blob.size for part in parts if part.outer)


def _scan_part(path: Path, part: Part) -> str:
    digest = hashlib.sha256()
    at = 0
    for record in part.records:  # in order of their places
        if record.start < at:
            raise damaged(path, f"its entries {record.name} and the one before overlap")
        _feed(part, digest, at, record.start)
        at = record.start + record.size
        if _feed(part, digest, record.start, at, checked=True) != record.crc:
            raise damaged(path, f"entry {record.name} does not match its checksum")
    _feed(part, digest, at, part.blob.size)
    return digest.hexdigest()


def _feed(part: Part, digest: hashlib._Hash, start: int, end: int, *, checked: bool = False) -> int:
    """Digest a stretch. Returns its CRC-32 when it is checked."""
    crc = 0
    for at in range(start, end, _CHUNK):
        stop = min(at + _CHUNK, end)
        chunk = part.blob.view[at:stop]
        digest.update(chunk)
        if checked:
            crc = zlib.crc32(chunk, crc)
        part.blob.release(at, stop)
    return crc
