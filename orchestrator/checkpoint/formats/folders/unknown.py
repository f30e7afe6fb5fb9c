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
    found = [name for name in inner[-_MOST_FOLDERS:] if is_canonical(folder / name) or is_checkpoint(folder / name)]
    if found:
        return _several(folder, found, "checkpoint", "folder")
    if files := weight_files(files_in(folder)):
        return _several(folder, files, "file of weights", "file")
    inside = [*(f"{name}/" for name in inner), *files_in(folder)]
    what = f"is a folder, but no checkpoint of a known kind: it holds {_listed(inside) or 'nothing'}"
    hint = "give the file with the weights, or the folder that a trainer wrote as one checkpoint"
    return refuse(folder, RefusalReason.NOT_A_CHECKPOINT, what, hint)


def _several(folder: Path, names: list[str], what: str, kind: str) -> CheckpointError:
    ordered = by_number(names)
    newest = ordered[-1]
    count = f"{len(names)} {what.replace('file', 'files', 1) if 'file' in what else what + 's'}"
    described = f"is not one checkpoint: it holds {count if len(names) > 1 else f'a {what}'}, {_listed(ordered)}"
    hint = f"give the {kind} that you mean, e.g. {folder.name}/{newest}"
    if len(names) > 1 and any(character.isdigit() for character in newest):
        hint += ", whose number is the highest"
    return refuse(folder, RefusalReason.NOT_A_CHECKPOINT, described, hint)


def _listed(names: list[str]) -> str:
    """The first names and the last one."""
    shown = [ascii(name)[1:-1] for name in names]
    if len(shown) > _MOST_NAMES:
        shown = [*shown[: _MOST_NAMES - 1], "...", shown[-1]]
    return ", ".join(shown)
