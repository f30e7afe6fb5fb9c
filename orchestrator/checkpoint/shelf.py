"""The checkpoints in one folder, on this machine or in remote storage: which there are, gone, renamed, copied.

Contract: at every moment a checkpoint is whole or none: on this machine because folders are renamed, in remote storage
because its manifest is written last and removed first. What is taken is a path or a URI, and what is given is of the
same kind.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from orchestrator.checkpoint.manifest import MANIFEST
from orchestrator.checkpoint.partials import disk_errors, partial_name, publish, remove_abandoned, remove_folder
from orchestrator.checkpoint.storage import (
    Location,
    Place,
    checkpoint_errors,
    folders_in,
    join,
    local_path,
    open_place,
    stored_manifest,
)
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.storage import parent, remote_errors

_TENSORS = ".safetensors"
"""How the names of the files end that a checkpoint begins with: a folder without any is not half of one."""


def inside(folder: Location, name: str) -> Location:
    """What has a name in a folder."""
    local = local_path(folder)
    return local / name if local is not None else join(folder, name)


def above(where: Location) -> Location:
    """The folder that something lies in."""
    local = local_path(where)
    return local.parent if local is not None else parent(where)


def name_of(where: Location) -> str:
    """The last part of a path, or of a URI's path."""
    local = local_path(where)
    return local.name if local is not None else unquote(PurePosixPath(urlsplit(str(where)).path).name)


def subfolders(folder: Location) -> list[str]:
    """The names of the folders in a folder, whole or not, sorted; none when it is not there.

    Raises:
        CheckpointError: `storage`, when a remote storage does not answer.
    """
    local = local_path(folder)
    if local is not None:
        return sorted(path.name for path in local.glob("*") if path.is_dir())
    try:
        return folders_in(open_place(folder))
    except CheckpointError as error:
        if error.reason is RefusalReason.MISSING:
            return []
        raise


def stands(checkpoint: Location) -> bool:
    """Whether something that may be a checkpoint, whole or damaged, has this name."""
    local = local_path(checkpoint)
    if local is not None:
        return local.exists()
    place = open_place(checkpoint)
    with checkpoint_errors():
        return place.sizes([MANIFEST])[MANIFEST] is not None


def remove(checkpoint: Location) -> None:
    """Remove a checkpoint; one that is gone already is no error.

    Raises:
        CheckpointError: `storage`; it is whole then, or none.
    """
    local = local_path(checkpoint)
    if local is not None:
        return remove_folder(local)
    _remove(open_place(checkpoint))


def rename(checkpoint: Location, name: str) -> Location:
    """Give a checkpoint, whole or damaged, another name in its folder, which nothing has.

    Raises:
        CheckpointError: `storage`.
    """
    local = local_path(checkpoint)
    if local is not None:
        with disk_errors(local):
            return local.rename(local.parent / name)
    renamed = join(parent(checkpoint), name)
    source, target = open_place(checkpoint), open_place(renamed)
    with checkpoint_errors(), remote_errors(source):
        target.filesystem.create_dir(target.path, recursive=True)
        for file in sorted(_files(source), key=lambda file: file != MANIFEST):  # without it, it is none
            source.filesystem.move(source.child(file).path, target.child(file).path)
    return renamed


def duplicate(source: Location, target: Location) -> None:
    """Copy a whole checkpoint to a name that nothing has; the same bytes under a second name where that can be.

    Raises:
        CheckpointError: `storage`; `missing`, when the source is not whole.
    """
    here, there = local_path(source), local_path(target)
    if here is not None and there is not None:
        with disk_errors(there):
            partial = there.parent / partial_name(there.name)
            shutil.copytree(here, partial, copy_function=_linked)
            return publish(partial, there)
    origin, copy = open_place(source), open_place(target)
    manifest = stored_manifest(origin)
    if manifest is None:
        what = f"{origin.name} is no whole checkpoint"
        raise CheckpointError(what, reason=RefusalReason.MISSING, path=origin.name, hint="use another one")
    with checkpoint_errors(), remote_errors(copy):
        copy.filesystem.create_dir(copy.path, recursive=True)
        for file in (*manifest.files, MANIFEST):
            copy.filesystem.copy_file(origin.child(file).path, copy.child(file).path)


def sweep(folder: Location) -> None:
    """Remove what killed writers left half-written; only for whoever is the only writer.

    Raises:
        CheckpointError: `storage`, when a remote storage does not answer.
    """
    local = local_path(folder)
    if local is not None:
        remove_abandoned(local, after_s=0)
        return
    for name in subfolders(folder):
        place = open_place(join(folder, name))
        with checkpoint_errors(), remote_errors(place):
            files = _files(place)
        if any(file.endswith(_TENSORS) for file in files) and MANIFEST not in files:
            _remove(place)


def _remove(place: Place) -> None:
    with checkpoint_errors(), remote_errors(place):
        with contextlib.suppress(FileNotFoundError):
            place.filesystem.delete_file(place.child(MANIFEST).path)
        with contextlib.suppress(FileNotFoundError):
            place.filesystem.delete_dir(place.path)


def _files(place: Place) -> list[str]:
    """The names of the files directly in a remote folder."""
    from pyarrow.fs import FileSelector

    infos = place.filesystem.get_file_info(FileSelector(place.path, allow_not_found=True))
    return sorted(info.base_name for info in infos if info.is_file and info.base_name)


def _linked(source: str, target: str) -> None:
    """The same file under a second name, because checkpoints are never changed; a copy where that cannot be."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
