"""The kinds of folders, in the order in which they are tried. A new one is a file here and a line in `FOLDERS`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, FolderFormat, refuse
from orchestrator.checkpoint.formats.folders.single import SINGLE
from orchestrator.errors import RefusalReason


def read_folder(folder: Path) -> Contents:
    """Read one folder.

    Raises:
        CheckpointError: it is refused; `reason` says why.
    """
    for kind in FOLDERS:
        if kind.detect(folder):
            return kind.read(folder)
    inside = sorted(item.name for item in folder.iterdir())[:6]
    what = f"is a folder, but no checkpoint of a known kind: it holds {', '.join(inside) or 'nothing'}"
    hint = "give the file with the weights, or the folder that a trainer wrote as one checkpoint"
    raise refuse(folder, RefusalReason.NOT_A_CHECKPOINT, what, hint)


FOLDERS: tuple[FolderFormat, ...] = (SINGLE,)
"""The first that detects a folder reads it."""

__all__ = ["FOLDERS", "read_folder"]
