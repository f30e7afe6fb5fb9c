"""Names inside archives, folders and index files, which must not lead anywhere else.

Promise: a file is only opened when it lies in the folder that the person gave, links followed.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from orchestrator.checkpoint.formats.base import SourceFile, refuse
from orchestrator.errors import RefusalReason

_HINT = "it is damaged, or made to read or write elsewhere: get it from its source again"


def require_inside(source: SourceFile | Path, name: str) -> None:
    """Refuse a name that leads out of where it stands.

    Raises:
        CheckpointError: `unsafe`.
    """
    windows = PureWindowsPath(name)
    outside = (
        not name.strip("/.")
        or PurePosixPath(name).is_absolute()
        or windows.is_absolute()
        or bool(windows.drive)
        or ".." in PurePosixPath(name.replace("\\", "/")).parts
        or "\0" in name
    )
    if outside:
        what = f"names {name[:120]!r}, which leads out of its folder; nothing was read from there"
        raise refuse(source, RefusalReason.UNSAFE, what, _HINT)


def member_of(folder: Path, name: str) -> Path:
    """The file `name` of a folder.

    Raises:
        CheckpointError: `unsafe` when it leads out of the folder, `corrupt` when it is not there.
    """
    require_inside(folder, name)
    path = folder / name
    if not path.is_file():
        what = f"is incomplete: {name} is missing"
        raise refuse(folder, RefusalReason.CORRUPT, what, "download or copy the whole folder again")
    require_own(folder, path)
    return path


def require_own(folder: Path, path: Path) -> None:
    """Refuse a file that a link brings in from elsewhere; a hub's cache links `snapshots/<revision>` to its `blobs`.

    Raises:
        CheckpointError: `unsafe`.
    """
    real, here = path.resolve(), folder.resolve()
    allowed = [here, here.parent.parent / "blobs"] if here.parent.name == "snapshots" else [here]
    if not any(real.is_relative_to(place) for place in allowed):
        what = f"holds a link, {path.name}, to a file outside of it"
        raise refuse(folder, RefusalReason.UNSAFE, what, "copy the file itself into the folder")
