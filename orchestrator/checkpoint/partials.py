"""Things under construction: written beside their place under a name of their own, then renamed, or gone.

Promises: what has its final name is whole; a failure (a full disk, missing rights) leaves nothing and is one
`CheckpointError`; what a killed process left is named `.partial-<what>-<process>@<host>-<random>` and is removed by
whoever writes there next, once nothing in it was written for an hour and its process does not live on this machine.
What shall go gets such a name first, so that half of it is never taken for a whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.storage import Location, redacted, sync_folder

PREFIX = ".partial-"
"""How the names of all things under construction begin."""
ABANDONED_AFTER = 3600.0
"""Seconds without a write after which a leftover may be removed."""

_OWNER = re.compile(re.escape(PREFIX) + r".*-(\d+)@(.*)-[0-9a-f]{32}(\.tmp)?")
_MOST_NAME = 16
_made_here: set[str] = set()


@contextlib.contextmanager
def partial_directory(parent: Path, name: str) -> Iterator[Path]:
    """A folder beside the place where a directory shall appear; it is gone afterwards, published or not.

    Raises:
        CheckpointError: `storage`, when the disk is full or does not allow it.
    """
    with disk_errors(parent):
        made = _first_missing(parent)
        partial = parent / partial_name(name)
        _make(partial)
        try:
            remove_abandoned(parent)
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            _remove_empty(parent, made)


@contextlib.contextmanager
def partial_file(target: Path) -> Iterator[Path]:
    """A name beside `target` to write to; when all went well it becomes `target`, flushed to disk, otherwise it goes.

    Raises:
        CheckpointError: `storage`, when the disk is full or does not allow it.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        # torch names the folder inside its zip after the file, without the ending; it refuses an empty name
        partial = target.parent / f"{partial_name(target.name)}.tmp"
        try:
            remove_abandoned(target.parent)
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def publish(partial: Path, target: Path) -> None:
    """Give a whole directory its name, unless something has it: POSIX replaces an empty directory, not a full one.

    Raises:
        CheckpointError: `exists`.
    """
    try:
        partial.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise CheckpointError(
            f"{target} exists already", reason=RefusalReason.EXISTS, path=str(target), hint="choose a new name"
        ) from error
    sync_folder(target.parent)


@contextlib.contextmanager
def disk_errors(place: Location) -> Iterator[None]:
    """A full disk and missing rights in one message; what was begun is gone by then.

    Raises:
        CheckpointError: `storage`.
    """
    try:
        yield
    except OSError as error:
        shown = redacted(place)
        what = f"{shown} cannot be written: {error.strerror or error}; nothing was left there"
        hint = "free some space, or give another place"
        raise CheckpointError(what, reason=RefusalReason.STORAGE, path=shown, hint=hint) from error


def leftovers(folder: Path) -> list[Path]:
    """Everything in a folder that is under construction, or was when its process ended."""
    with contextlib.suppress(OSError):
        return sorted(item for item in folder.iterdir() if item.name.startswith(PREFIX))
    return []


def remove_abandoned(folder: Path, *, now: float | None = None, after_s: float = ABANDONED_AFTER) -> list[Path]:
    """Remove what killed processes left in a folder, and say what.

    Args:
        folder: where states or exports are written.
        now: seconds since the epoch, for tests.
        after_s: seconds without a write after which it goes; 0 for whoever is the only writer.
    """
    moment = time.time() if now is None else now
    gone = []
    for item in leftovers(folder):
        if moment - _last_write(item) > after_s and not _owner_lives(item.name):
            shutil.rmtree(item, ignore_errors=True) if item.is_dir() else item.unlink(missing_ok=True)
            gone.append(item)
    return gone


def remove_folder(folder: Path) -> None:
    """Remove a directory so that it is whole or gone at every moment; one that is gone already is none of its errors.

    Raises:
        CheckpointError: `storage`, when the disk does not allow it; the directory is whole then.
    """
    hidden = folder.parent / partial_name(folder.name)
    with disk_errors(folder.parent), contextlib.suppress(FileNotFoundError):
        folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def partial_name(name: str) -> str:
    """A name for something under construction that tells who makes it."""
    made = f"{PREFIX}{name[:_MOST_NAME]}-{os.getpid()}@{_host()}-{uuid.uuid4().hex}"
    _made_here.add(made)
    return made


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:64]


def _owner_lives(name: str) -> bool:
    """Whether the process that makes it runs on this machine; of other machines only the age can tell."""
    owner = _OWNER.fullmatch(name)
    if owner is None or owner[2] != _host():
        return False
    if int(owner[1]) == os.getpid():  # in containers, whoever comes next has the same number as who was killed
        return name.removesuffix(".tmp") in _made_here
    try:
        os.kill(int(owner[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _last_write(item: Path) -> float:
    """When something in it was last written; now, when it is just going."""
    try:
        return max(path.lstat().st_mtime for path in [item, *item.rglob("*")])
    except OSError:
        return float("inf")


def _first_missing(folder: Path) -> Path | None:
    """The highest of the folders that must be made."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    return missing[-1] if missing else None


def _make(partial: Path) -> None:
    """Make it and its parents; another process that failed may just be removing an empty parent."""
    for _ in range(3):
        with contextlib.suppress(FileNotFoundError):
            partial.mkdir(parents=True)
            return
    partial.mkdir(parents=True)


def _remove_empty(folder: Path, highest: Path | None) -> None:
    """Take back folders that were made for something that did not come."""
    if highest is None:
        return
    for path in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            path.rmdir()
        if path == highest:
            return
