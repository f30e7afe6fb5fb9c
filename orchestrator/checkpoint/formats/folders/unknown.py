"""Folders that are no checkpoint, told as what they are: a run with many checkpoints in it, several models, no weights.

Contract: the answer names what was found and which of it a person most probably means: the one whose name counts
highest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.checkpoint.directory import is_canonical
from orchestrator.checkpoint.formats.base import refuse
from orchestrator.checkpoint.formats.folders.files import by_number, files_in, folders_in
from orchestrator.checkpoint.formats.folders.single import weight_files
from orchestrator.errors import CheckpointError, RefusalReason

_MOST_NAMES = 6
_MOST_FOLDERS = 200


def refuse_folder(folder: Path, is_checkpoint: Callable[[Path], bool]) -> CheckpointError:
    """The refusal of a folder that no kind reads; `is_checkpoint` tells whether one inside of it would be read."""
    inner = folders_in(folder)
    found = [name for name in by_number(inner)[-_MOST_FOLDERS:] if _holds_one(folder / name, is_checkpoint)]
    if found:
        return _one_of(folder, found, "a checkpoint in a folder of its own", "checkpoints in folders of their own")
    if files := by_number(weight_files(files_in(folder))):
        return _one_of(folder, files, "a file of weights", "files that may hold weights")
    inside = [*(f"{name}/" for name in inner), *files_in(folder)]
    what = f"is a folder, but no checkpoint of a known kind: it holds {_listed(inside) or 'nothing'}"
    hint = "give the file with the weights, or the folder that a trainer wrote as one checkpoint"
    return refuse(folder, RefusalReason.NOT_A_CHECKPOINT, what, hint)


def refuse_packed(folder: Path) -> CheckpointError:
    """The refusal of one of our own checkpoints where it cannot be verified file by file: in an archive."""
    what = "is a checkpoint of this product inside of an archive"
    return refuse(folder, RefusalReason.UNSUPPORTED, what, "unpack the archive and give the folder")


def _holds_one(folder: Path, is_checkpoint: Callable[[Path], bool]) -> bool:
    try:
        return is_canonical(folder) or is_checkpoint(folder)
    except OSError:
        return False


def _one_of(folder: Path, names: list[str], one: str, several: str) -> CheckpointError:
    """That a person must choose; names in the order of their numbers."""
    count = one if len(names) == 1 else f"{len(names)} {several}"
    newest = ascii(names[-1])[1:-1]
    hint = f"give the one that you mean, e.g. {Path(folder.name) / newest}"  # `.` has no name
    if len(names) > 1 and any(character.isdigit() for character in newest):
        hint += ", the newest by its number"
    what = f"is not one checkpoint: it holds {count}: {_listed(names)}"
    return refuse(folder, RefusalReason.NOT_A_CHECKPOINT, what, hint)


def _listed(names: list[str]) -> str:
    """The first names and the last one."""
    shown = [ascii(name)[1:-1] for name in names]
    if len(shown) > _MOST_NAMES:
        shown = [*shown[: _MOST_NAMES - 1], "...", shown[-1]]
    return ", ".join(shown)
