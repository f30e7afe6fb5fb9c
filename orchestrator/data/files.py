"""Small helpers for the files of a corpus: which are videos, what they hold, and how their names are shown."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from orchestrator.storage import atomic_writer

__all__ = ["VIDEO_EXTENSIONS", "atomic_writer", "find_videos", "printable", "sha256_of"]

VIDEO_EXTENSIONS = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".m4v"})
"""What `find_videos` takes for a video, compared in lower case."""
_CHUNK = 1 << 20


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
