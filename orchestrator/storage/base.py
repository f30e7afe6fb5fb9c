"""What a folder can do, wherever it is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK = 8 << 20
"""Bytes that are moved at a time."""


@dataclass(frozen=True)
class Entry:
    """One file in a folder."""

    name: str
    """POSIX path relative to the folder."""
    size: int
    """Bytes."""
    mtime_ns: int
    """When it was last written, nanoseconds since the epoch; 0 where the storage does not tell."""


class Folder(Protocol):
    """A folder on this machine or in remote storage.

    Names are POSIX paths relative to it; one that leads out of it is refused. Pickles as its `uri`. All methods raise
    `StorageError`; `missing` is set when what was asked for is not there.
    """

    @property
    def uri(self) -> str:
        """What `open_folder` takes again, also in another process; may hold credentials."""

    @property
    def name(self) -> str:
        """For messages: the address without credentials."""

    @property
    def local_path(self) -> Path | None:
        """The path, when it is on this machine."""

    def read(self, name: str) -> bytes:
        """All of a small file."""

    def entries(self, below: str = "") -> list[Entry]:
        """All files in a folder of this one and in the folders in it, sorted by name; none when it is not there.

        What is hidden (a part of its name begins with a dot, as of every file under construction) is left out.
        """

    def entry(self, name: str) -> Entry | None:
        """A file's size and time; none when there is no such file."""

    def writer(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A binary file that appears under its name, complete, only if the block ends without an error."""

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file; whoever reads it gets the old content or the new one."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """A file on this machine: itself, or a temporary copy that is gone afterwards."""

    def copy(self, name: str, target: BinaryIO) -> None:
        """Write all of a file into an open one, a few megabytes at a time; what the target raises is passed on."""

    def delete(self, name: str) -> None:
        """Remove a file; it may be gone already."""

    def child(self, name: str) -> Folder:
        """A folder in this one."""


def is_hidden(name: str) -> bool:
    """Whether a part of a relative POSIX path begins with a dot."""
    return name.startswith(".") or "/." in name
