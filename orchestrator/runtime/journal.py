"""What happens in a run, written down by its workers in the run's own folder, one JSON line each.

Why a file: whoever drives the run may die, or may not be able to record anything for a while, and what a checkpoint
counts as reported must not be lost with it; and training never waits for a listener. Contract: what was appended before
`sync` returned is in the file; a line that a crash cut short is dropped; a storage that refuses lines gets them later.
A continued run repeats steps, so that a step may occur more than once, with the same figures.

A row holds `at`, seconds since the epoch, and one of
    `figures`  the metrics of one report, `step` among them
    `facts`    what was decided: a start, a verdict, the scores of a new best, an end
    `note`     what a person should know, in one line
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from orchestrator.errors import StorageError

_BYTES = "base64"


class Journal:
    """Appends rows, from any thread of one process.

    Args:
        path: the file; made when there is something to write.
        keep: brings what is in the file where it outlives this machine; a `StorageError` of it is a refusal.
        now: seconds since the epoch.
    """

    def __init__(
        self, path: Path, *, keep: Callable[[], object] = lambda: None, now: Callable[[], float] = time.time
    ) -> None:
        self._path, self._keep, self._now = path, keep, now
        self._lock = threading.Lock()
        self._file: FileIO | None = None
        self._unwritten = b""

    def append(self, **row: Any) -> None:
        """Add a row: its kind and its content. A storage that refuses it is asked again at the next one, or `sync`."""
        line = json.dumps({"at": self._now(), **row}, default=_plain).encode() + b"\n"
        with self._lock:
            self._unwritten += line
            with contextlib.suppress(OSError):
                self._write()

    def sync(self) -> None:
        """Return when what was appended survives the end of this machine.

        Raises:
            OSError: the storage refuses it.
        """
        with self._lock:
            os.fsync(self._write().fileno())
        try:
            self._keep()
        except StorageError as error:
            raise OSError(errno.EIO, error.message) from error

    def _write(self) -> FileIO:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
            if not _ends_whole(self._path):
                self._unwritten = b"\n" + self._unwritten
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        return self._file


def read_journal(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows of a journal, oldest first, each with the offset of the one after it; none if there is no file.

    Args:
        path: the file; somebody may be writing it.
        offset: where to begin, in bytes; a file that is shorter than that is another one, and is read from its start.

    Raises:
        OSError: it cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset if offset <= os.fstat(file.fileno()).st_size else 0)
        while (line := file.readline()).endswith(b"\n"):
            try:
                row = json.loads(line, object_hook=_rich)
            except ValueError:  # cut short by a crash
                continue
            if isinstance(row, dict):
                yield row, file.tell()


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def _rich(value: Mapping[str, Any]) -> Any:
    return base64.b64decode(value[_BYTES]) if value.keys() == {_BYTES} else dict(value)
