"""Bytes that are looked at in place: a file, mapped and never read whole, or bytes in memory.

Promises: nothing that is done to a view changes the file (the map is private); a view stays valid while a tensor looks
into it, also after the file was removed; `release` gives the memory of a mapped file back without ending its views.
"""

from __future__ import annotations

import io
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

HEAD = 4096
"""Bytes from the beginning that detectors look at."""


class Blob:
    """Bytes with a name.

    Args:
        name: for messages.
        source: an open file, which may be closed once the blob is made; or bytes; or a view into another blob.
    """

    def __init__(self, name: str, source: BinaryIO | bytes | memoryview) -> None:
        self.name = name
        self._map: mmap.mmap | None = None
        if isinstance(source, memoryview):
            self.view = source
        elif isinstance(source, bytes):
            self.view = memoryview(bytearray(source))
        else:
            size = os.fstat(source.fileno()).st_size
            self._map = _private_map(source, size) if size else None
            self.view = memoryview(self._map) if self._map is not None else memoryview(b"")

    @classmethod
    def of_file(cls, path: Path, name: str = "") -> Blob:
        """A file on this machine."""
        with path.open("rb") as file:
            return cls(name or path.name, file)

    @classmethod
    def spooled(cls, name: str, chunks: Iterable[bytes]) -> Blob:
        """What comes out of an archive, in a temporary file that no folder shows and that ends with the blob."""
        with tempfile.TemporaryFile() as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            return cls(name, file)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.view)

    @cached_property
    def head(self) -> bytes:
        """Its first bytes, at most `HEAD`."""
        return bytes(self.view[:HEAD])

    def open(self, start: int = 0) -> io.BufferedReader[Any]:
        """The bytes as a file."""
        file: io.BufferedReader[Any] = io.BufferedReader(_ViewFile(self.view))
        file.seek(start)
        return file

    @contextmanager
    def scattered(self) -> Iterator[None]:
        """Small looks at many places: nothing beside them is read from disk meanwhile."""
        self._advise("MADV_RANDOM")
        try:
            yield
        finally:
            self._advise("MADV_NORMAL")

    def prefetch(self) -> None:
        """Have all of it read from disk in the background."""
        self._advise("MADV_WILLNEED")

    def release(self, start: int = 0, end: int | None = None) -> None:
        """Let go of the pages of a stretch that was read; the next look reads them again."""
        first = start - start % mmap.PAGESIZE
        self._advise("MADV_DONTNEED", first, min(end or self.size, self.size) - first)

    def _advise(self, what: str, *stretch: int) -> None:
        if self._map is not None and hasattr(mmap, what) and stretch[1:] != (0,):
            self._map.madvise(getattr(mmap, what), *stretch)


class _ViewFile(io.RawIOBase):
    """A view as a file."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence]
        if base + offset < 0:
            raise ValueError("a position before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        piece = self._view[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _private_map(file: BinaryIO, size: int) -> mmap.mmap:
    if os.name == "nt":
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)  # tensors are writable, but nobody writes gigabytes
    return mmap.mmap(file.fileno(), size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
