"""Checkpoints in remote storage: fetched to this machine, uploaded, listed.

What: any URI that `orchestrator.storage` opens. A path or `file://` URI is this machine and is passed through.
Promises: an upload's manifest comes last, so half of one is never taken for a checkpoint; whatever goes wrong becomes
one `CheckpointError` (`storage`, or `missing`), without the credentials that a URI may hold.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from orchestrator import storage
from orchestrator.checkpoint.manifest import MANIFEST, Manifest, parse_manifest
from orchestrator.errors import CheckpointError, RefusalReason, StorageError
from orchestrator.storage import Location, Place, download, join, local_path, redacted, remote_errors

__all__ = [
    "Location",
    "Place",
    "checkpoint_errors",
    "fetch",
    "fetched",
    "folders_in",
    "is_whole",
    "join",
    "local_path",
    "open_place",
    "redacted",
    "state_folders",
    "stored_manifest",
    "upload",
]
_CHUNK = 8 << 20
_TENSORS = ".safetensors"


@contextmanager
def checkpoint_errors() -> Iterator[None]:
    """What storage says, as an error about a checkpoint.

    Raises:
        CheckpointError: `missing` or `storage`.
    """
    try:
        yield
    except StorageError as error:
        reason = RefusalReason.MISSING if error.missing else RefusalReason.STORAGE
        raise CheckpointError(error.message, reason=reason, path=error.path, hint=error.hint) from None


@checkpoint_errors()
def open_place(where: Location) -> Place:
    """Connect to what a URI names.

    Raises:
        CheckpointError: `storage`: unknown scheme, no such bucket, no credentials, unreachable.
    """
    return storage.open_place(where)


@contextmanager
def fetched(where: Location, *, only: Collection[str] | None = None) -> Iterator[Path]:
    """A checkpoint on this machine: itself, or a copy in a temporary folder that is gone afterwards.

    What is mapped into memory from the copy stays readable after that. Errors name the place and not the copy.

    Args:
        where: a path or URI.
        only: of a canonical directory, fetch the manifest and these files.

    Raises:
        CheckpointError: `storage` or `missing`.
    """
    local = local_path(where)
    if local is not None:
        _require_reachable(local)
        yield local
        return
    place = open_place(where)
    with tempfile.TemporaryDirectory(prefix="syncnet-fetch-") as folder:
        copy = fetch(place, Path(folder), only)
        try:
            yield copy
        except CheckpointError as error:
            error.message = error.message.replace(str(copy), place.name)
            error.path, error.args = error.path.replace(str(copy), place.name), (error.message,)
            raise


@checkpoint_errors()
def fetch(place: Place, folder: Path, only: Collection[str] | None = None) -> Path:
    """Copy a file or folder into a local folder; of a canonical directory exactly what its manifest lists.

    Args:
        place: what to copy.
        folder: where to.
        only: of a canonical directory, the manifest and these files.

    Raises:
        CheckpointError: `storage`, `missing`, or `unsafe` when a name leads out of the folder.
    """
    with remote_errors(place):
        info = place.filesystem.get_file_info(place.path)
    target = folder / (PurePosixPath(place.path).name or "checkpoint")
    if info.is_file:
        _download(place, target)
        beside = PurePosixPath(place.path).with_suffix(".yaml").name  # a description of the network
        above = Place(place.filesystem, str(PurePosixPath(place.path).parent), place.name, place.secrets)
        if above.sizes([beside])[beside] is not None:
            _download(above.child(beside), folder / beside)
        return target
    manifest = stored_manifest(place)
    names = _existing(place, manifest) if manifest else _listed(place)
    if only is not None:
        names = [name for name in names if name in (MANIFEST, *only)]
        target.mkdir()
    elif not names:
        what = f"there is no file or folder {place.name}"
        raise CheckpointError(what, reason=RefusalReason.MISSING, path=place.name, hint="check the address")
    for name in names:
        _download(place.child(name), target / name)
    return target


@checkpoint_errors()
def stored_manifest(place: Place) -> Manifest | None:
    """The manifest of a directory in remote storage; none when it is missing or damaged.

    Raises:
        CheckpointError: `unsupported`, when a newer version wrote it; `storage`.
    """
    text = place.read(MANIFEST)
    try:
        return parse_manifest(text, f"{place.name}/{MANIFEST}") if text is not None else None
    except CheckpointError as error:
        if error.reason is RefusalReason.UNSUPPORTED:
            raise
        return None


@checkpoint_errors()
def folders_in(place: Place) -> list[str]:
    """Names of the folders directly in a folder.

    Raises:
        CheckpointError: `missing` or `storage`.
    """
    from pyarrow.fs import FileSelector, FileType

    with remote_errors(place):
        infos = place.filesystem.get_file_info(FileSelector(place.path))
    return sorted(info.base_name for info in infos if info.type is FileType.Directory)


@checkpoint_errors()
def state_folders(place: Place) -> list[str]:
    """Names of the folders directly in a folder that hold a checkpoint, or what was to become one.

    Raises:
        CheckpointError: `missing` or `storage`.
    """
    from pyarrow.fs import FileSelector

    with remote_errors(place):
        infos = place.filesystem.get_file_info(FileSelector(place.path, recursive=True))
    files = (PurePosixPath(info.path).relative_to(place.path).parts for info in infos if info.is_file)
    inside = [parts for parts in files if len(parts) == 2]
    return sorted({folder for folder, name in inside if name == MANIFEST or name.endswith(_TENSORS)})


@checkpoint_errors()
def is_whole(place: Place) -> bool:
    """Whether every file that the manifest lists is there with its size. Fetches the manifest only."""
    manifest = stored_manifest(place)
    if manifest is None:
        return False
    sizes = place.sizes(manifest.files)
    return all(sizes[name] == entry.size for name, entry in manifest.files.items())


@checkpoint_errors()
def upload(folder: Path, place: Place) -> bool:
    """Copy a canonical directory to remote storage, its manifest last. Whole ones are left alone.

    Returns:
        Whether anything was written.

    Raises:
        CheckpointError: `storage`; `exists` when another state has that name.
    """
    manifest = parse_manifest((folder / MANIFEST).read_bytes(), str(folder / MANIFEST))
    there = stored_manifest(place)
    if there is not None and there.content_hash != manifest.content_hash:
        what = f"{place.name} holds another state"
        raise CheckpointError(what, reason=RefusalReason.EXISTS, path=place.name, hint="choose a new name")
    if there is not None and is_whole(place):
        return False
    with remote_errors(place):
        place.filesystem.create_dir(place.path, recursive=True)
        for name in (*manifest.files, MANIFEST):
            with (folder / name).open("rb") as source, place.child(name).output_stream() as target:
                shutil.copyfileobj(source, target, _CHUNK)
    if not is_whole(place):
        what = f"{place.name} is not whole after it was written: something else writes there too"
        raise CheckpointError(what, reason=RefusalReason.STORAGE, path=place.name, hint="give the command again")
    return True


def _download(place: Place, target: Path) -> None:
    with remote_errors(place):  # a full disk here is told like a storage that fails
        download(place, target)


def _existing(place: Place, manifest: Manifest) -> list[str]:
    """What is there of a canonical directory; what is not is told by whoever reads it."""
    return [name for name, size in place.sizes((*manifest.files, MANIFEST)).items() if size is not None]


def _listed(place: Place) -> list[str]:
    """Every file below a folder, relative to it."""
    from pyarrow.fs import FileSelector

    with remote_errors(place):
        infos = place.filesystem.get_file_info(FileSelector(place.path, recursive=True, allow_not_found=True))
    names = [info.path.removeprefix(place.path).lstrip("/") for info in infos if info.is_file]
    for name in names:
        if ".." in PurePosixPath(name).parts or "\\" in name:
            what = f"{place.name} names {name[:120]!r}, which leads out of its folder; nothing was fetched"
            raise CheckpointError(what, reason=RefusalReason.UNSAFE, path=place.name, hint="get it from its source")
    return names


def _require_reachable(path: Path) -> None:
    """Tell a path that cannot even be looked at; one that is not there is told by whoever reads it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    except OSError as error:
        if error.errno == errno.ELOOP:
            return
        reason = RefusalReason.MISSING if error.errno == errno.ENAMETOOLONG else RefusalReason.STORAGE
        shown = str(path) if len(str(path)) < 300 else f"{str(path)[:300]}..."
        what = f"{shown} cannot be looked at: {error.strerror}"
        raise CheckpointError(what, reason=reason, path=str(path), hint="check the path and who may read it") from error
