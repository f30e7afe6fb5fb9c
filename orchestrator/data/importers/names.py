"""Paths as text: what every layout asks of a list of relative POSIX names. Pure functions; no file is touched."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from orchestrator.data.files import VIDEO_EXTENSIONS

_MOST_KINDS = 4
_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*://")


def is_video(name: str) -> bool:
    """Whether a path is named like a video; hidden files are none."""
    base = name.rpartition("/")[2]  # plain text: `PurePath` takes a minute for a million names
    return not base.startswith(".") and posixpath.splitext(base)[1].lower() in VIDEO_EXTENSIONS


def without_extension(name: str) -> str:
    """A clip's path without the extension of a video; a folder keeps its whole name, dots included."""
    return posixpath.splitext(name)[0] if is_video(name) else name


def is_absolute(name: str) -> bool:
    """Whether a path does not start at the root: an absolute path or a URI."""
    return _ABSOLUTE.match(name) is not None


def first_folder(name: str) -> str:
    """The first folder of a path, or its own name without extension when it lies in no folder."""
    first, slash, _ = name.partition("/")
    return first if slash else without_extension(name)


def last_folder(name: str) -> str:
    """The folder that a path lies in, or its own name without extension when it lies in no folder."""
    return posixpath.basename(posixpath.dirname(name)) or without_extension(name)


def relative_to_each_other(names: Sequence[str]) -> list[str]:
    """The names with absolute ones cut down to what lies below their deepest common folder; relative ones stay."""
    folders = {posixpath.dirname(name) for name in names if is_absolute(name)}
    if not folders:
        return list(names)
    common = common_folder(folders)
    return [name[len(common) :].lstrip("/") if is_absolute(name) else name for name in names]


def common_folder(folders: Iterable[str]) -> str:
    """The deepest folder that holds all of them; empty when there is none."""
    parts = [folder.split("/") for folder in folders]
    if not parts:
        return ""
    # The least and the greatest list of parts differ earliest.
    low, high = min(parts), max(parts)
    same = next((k for k, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return "/".join(low[:same])


def kinds_of(names: Iterable[str]) -> str:
    """The extensions of some files with their counts, the most frequent first: `1,092 .m4a, 3 .txt`."""
    counted = Counter(posixpath.splitext(name)[1].lower() or "without extension" for name in names)
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {kind}" for kind, count in ordered[:_MOST_KINDS]]
    rest = sum(count for _, count in ordered[_MOST_KINDS:])
    return ", ".join(shown + ([f"{rest:,} others"] if rest else []))


def counted(count: int, one: str, many: str = "") -> str:
    """`1 video`, `2 videos`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
