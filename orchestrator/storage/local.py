"""Folders on this machine, and the one way to write a file there: whole or not at all.

A writer gets a temporary file in the target's own folder, which is synced and then renamed; a killed process leaves
at most a hidden `.*.tmp` file, which every reader ignores. Names that are not valid UTF-8 stay as Python has them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator.errors import StorageError
from orchestrator.storage.addresses import inside
from orchestrator.storage.base import CHUNK, Entry

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_ABSENT = (FileNotFoundError, NotADirectoryError)
_SYSTEM_FOLDERS = frozenset({"lost+found"})
"""At the root of a disk and closed to everybody: no reason to refuse the whole disk."""


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears as `path`, complete and synced, only if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def temporary_name(name: str) -> str:
    """A hidden name for a file under construction.

    The random part keeps two writers of the same file (a retried task and its zombie) apart; a long name is cut, so
    that the result is not too long for the disk.
    """
    return f".{name[:40]}.{secrets.token_hex(6)}.tmp"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it for folders
            os.fsync(handle)
    finally:
        os.close(handle)


class LocalFolder:
    """A folder on this machine; see `Folder`."""

    def __init__(self, path: str | Path) -> None:
        self.local_path = Path(path).absolute()
        self.uri = str(self.local_path)
        self.name = str(path)

    def read(self, name: str) -> bytes:
        """All of a small file."""
        path = self._path(name)
        with _errors(path, "read"):
            return path.read_bytes()

    def entries(self, below: str = "") -> list[Entry]:
        """All visible files. Linked folders are followed, each real folder once, so that a link cannot loop."""
        found: list[Entry] = []
        seen: set[tuple[int, int]] = set()
        start = self._path(below)
        with _errors(start, "listed"):
            for folder, subfolders, names in os.walk(start, onerror=_raise_unless_absent, followlinks=True):
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in seen:
                    subfolders.clear()
                    continue
                seen.add((status.st_dev, status.st_ino))
                # sorted, so that of two links to one folder the same one is taken everywhere
                subfolders[:] = sorted(n for n in subfolders if not n.startswith(".") and n not in _SYSTEM_FOLDERS)
                found += [e for n in names if not n.startswith(".") and (e := self._entry(Path(folder, n)))]
        return sorted(found, key=lambda entry: entry.name)

    def entry(self, name: str) -> Entry | None:
        """A file's size and time; none when there is no such file."""
        path = self._path(name)
        with _errors(path, "looked at"):
            return self._entry(path)

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """A binary file that appears complete and synced, only if the block ends without an error."""
        path, inside_block = self._path(name), False
        try:
            with atomic_writer(path) as file:
                inside_block = True
                yield file
                inside_block = False
        except OSError as error:
            # what else goes wrong in the block is not about this file
            if inside_block and error.errno not in _FULL:
                raise
            raise _failure(path, "written", error) from error

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file."""
        with self.writer(name) as file:
            file.write(content)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """The file itself."""
        path = self._path(name)
        if not path.exists():
            raise _missing(path)
        yield path

    def copy(self, name: str, target: BinaryIO) -> None:
        """Write all of a file into an open one."""
        path = self._path(name)
        with _errors(path, "read"):
            source = path.open("rb")
        with source:
            shutil.copyfileobj(source, target, CHUNK)

    def delete(self, name: str) -> None:
        """Remove a file; it may be gone already."""
        path = self._path(name)
        with _errors(path, "deleted"), contextlib.suppress(*_ABSENT):
            path.unlink()

    def child(self, name: str) -> LocalFolder:
        """A folder in this one."""
        return LocalFolder(self._path(name))

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalFolder, (self.uri,)

    def __repr__(self) -> str:
        return f"LocalFolder({self.uri!r})"

    def _path(self, name: str) -> Path:
        return self.local_path / inside(self.name, name)

    def _entry(self, path: Path) -> Entry | None:
        try:
            status = path.stat()
        except OSError as error:
            # a link that leads nowhere, or to itself, is no file; one of them must not hide all others
            if isinstance(error, _ABSENT) or error.errno == errno.ELOOP:
                return None
            raise
        if not stat.S_ISREG(status.st_mode):
            return None
        return Entry(path.relative_to(self.local_path).as_posix(), status.st_size, status.st_mtime_ns)


@contextmanager
def _errors(path: Path, action: str) -> Iterator[None]:
    """An error of the operating system as one that names the path and says what to do."""
    try:
        yield
    except OSError as error:
        raise _failure(path, action, error) from error


def _failure(path: Path, action: str, error: OSError) -> StorageError:
    if isinstance(error, FileNotFoundError) and action == "read":
        return _missing(path)
    hint = "free some space, or give another place" if error.errno in _FULL else "check the path and its permissions"
    what = f"{path} cannot be {action}: {error.strerror or error}"
    return StorageError(what, missing=isinstance(error, _ABSENT), path=str(path), hint=hint)


def _missing(path: Path) -> StorageError:
    return StorageError(f"there is no file {path}", missing=True, path=str(path), hint="check the path")


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, _ABSENT):
        raise error
