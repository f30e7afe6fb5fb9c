"""The kinds of folders, in the order in which they are tried. A new one is a file here and a line in `FOLDERS`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestrator.checkpoint.directory import is_canonical
from orchestrator.checkpoint.formats.base import Contents, FolderFormat
from orchestrator.checkpoint.formats.folders.accelerate import ACCELERATE
from orchestrator.checkpoint.formats.folders.dcp import DCP
from orchestrator.checkpoint.formats.folders.deepspeed import DEEPSPEED
from orchestrator.checkpoint.formats.folders.exported import EXPORTED
from orchestrator.checkpoint.formats.folders.huggingface import HUGGINGFACE
from orchestrator.checkpoint.formats.folders.mlflow import MLFLOW
from orchestrator.checkpoint.formats.folders.sharded import SHARDED, is_index, read_index_file
from orchestrator.checkpoint.formats.folders.single import SINGLE
from orchestrator.checkpoint.formats.folders.unknown import refuse_folder, refuse_packed

_RAY_METADATA = ".metadata.json"


def read_folder(folder: Path) -> Contents:
    """Read one folder.

    Raises:
        CheckpointError: it is refused; `reason` says why.
    """
    if is_canonical(folder):  # outside of an archive these are verified and read by the directory's own reader
        raise refuse_packed(folder)
    for kind in FOLDERS:
        if kind.detect(folder):
            contents = kind.read(folder)
            if (folder / _RAY_METADATA).is_file():
                return replace(contents, container=f"{contents.container} in a ray checkpoint")
            return contents
    raise refuse_folder(folder, _is_checkpoint)


def _is_checkpoint(folder: Path) -> bool:
    return any(kind.detect(folder) for kind in FOLDERS)


FOLDERS: tuple[FolderFormat, ...] = (DEEPSPEED, DCP, ACCELERATE, MLFLOW, EXPORTED, HUGGINGFACE, SHARDED, SINGLE)
"""The first that detects a folder reads it: those whose files say most of themselves come first."""

__all__ = ["FOLDERS", "is_index", "read_folder", "read_index_file"]
