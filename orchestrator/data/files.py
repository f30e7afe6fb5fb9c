"""Small file helpers that keep one promise: a file under its final name is whole.

A writer gets a temporary file in the target's own folder, which is synced and then renamed; a killed process leaves
at most a hidden `.*.tmp` file, which every reader of this room ignores.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

VIDEO_EXTENSIONS = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".m4v"})
"""What `find_videos` takes for a video, compared in lower case."""
_CHUNK = 1 << 20


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears as `path`, complete and synced, only if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The random part keeps two writers of the same path (a retried task and its zombie) out of each other's file.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}.tmp"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def find_videos(root: Path) -> list[str]:
    """All files below `root` with a video extension: sorted POSIX paths relative to it.

    Hidden files are left out (`._name.mp4` is how one system stores a file's attributes). Linked folders are
    followed, each real folder once, so that a link to a parent cannot loop.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in names if _is_video_name(name)]
    return sorted(found)


def printable(text: str) -> str:
    """`text` as valid Unicode: bytes of a file name that are not UTF-8 become backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_video_name(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can sync folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
