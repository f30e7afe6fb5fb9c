"""Where a listed path points: one spelling for each file, relative to the root where it lies in the root.

Lists hold absolute paths, URIs, and paths relative to the list, `..` included. One file must not stand for two clips
because two spellings were used for it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from orchestrator.data.importers.names import common_folder, is_absolute
from orchestrator.storage import Folder


def place(root: Folder, text: str) -> str:
    """The source that a listed path stands for: relative to the root, or absolute, or a URI; empty for the root."""
    bases = _bases(root)
    path = _normal(text if is_absolute(text) else posixpath.join(bases[0] or "/", text))
    return next((path[len(base) + 1 :] for base in bases if f"{path}/".startswith(f"{base}/")), path)


def missing(root: Folder, sources: Sequence[str]) -> set[str]:
    """Which of these files are not there. URIs outside of the root are taken on trust: asking each costs too much."""
    inside = [source for source in sources if not is_absolute(source)]
    local = [source for source in sources if source.startswith("/")]
    absent = {source for source in local if not Path(source).is_file()}
    if root.local_path is not None:
        return absent | {source for source in inside if not (root.local_path / source).is_file()}
    # One listing instead of one request per file.
    there = {entry.name for entry in root.entries(common_folder({posixpath.dirname(source) for source in inside}))}
    return absent | (set(inside) - there)


def _bases(root: Folder) -> list[str]:
    """The spellings of the root that a path may begin with: as it was given, and with its links followed.

    Remote ones come without credentials, because sources are written down.
    """
    if root.local_path is None:
        return [root.name.rstrip("/")]
    absolute = Path(posixpath.abspath(root.local_path))
    return list(dict.fromkeys(path.as_posix().rstrip("/") for path in (absolute, absolute.resolve())))


def _normal(path: str) -> str:
    """Without `.`, `..` and doubled slashes. Two leading slashes mean nothing here."""
    if "://" in path:
        scheme, _, rest = path.partition("://")
        return f"{scheme}://{posixpath.normpath(rest)}"
    normal = posixpath.normpath(path)
    return f"/{normal.lstrip('/')}" if normal.startswith("/") else normal
