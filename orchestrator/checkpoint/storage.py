"""Remote storage: checkpoints behind a URI, through pyarrow's file systems and fsspec's.

What: `s3://`, `gs://`, `hdfs://`, `abfs://` by pyarrow; `memory://` and all else that fsspec knows by fsspec. A path or
`file://` URI is this machine and is passed through. Files are streamed, a few megabytes at a time.
Promises: an upload's manifest comes last, so half of one is never taken for a checkpoint; whatever goes wrong becomes
one `CheckpointError` (`storage`, or `missing`), without the credentials that a URI may hold.
"""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from orchestrator.checkpoint.manifest import MANIFEST, Manifest, parse_manifest
from orchestrator.errors import CheckpointError, OrchestratorError, RefusalReason

Location = str | Path
"""A path on this machine, or the URI of remote storage."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(/?)(.*)", re.DOTALL)
_CHUNK = 8 << 20


@dataclass(frozen=True)
class Place:
    """A file or folder in remote storage."""

    filesystem: Any
    """A `pyarrow.fs.FileSystem`."""
    path: str
    """Where in it."""
    name: str
    """For messages: the URI without credentials."""
    secrets: tuple[str, ...] = ()
    """What must not appear in any message."""

    def sizes(self, names: Iterable[str]) -> dict[str, int | None]:
        """Length of each file of this folder; none where it is missing."""
        paths = {str(PurePosixPath(self.path) / name): name for name in names}
        with remote_errors(self):
            infos = self.filesystem.get_file_info(list(paths))
        return {paths[info.path]: info.size if info.is_file else None for info in infos}

    def read(self, name: str) -> bytes | None:
        """All of a small file of this folder; none when it is missing."""
        if self.sizes([name])[name] is None:
            return None
        with remote_errors(self), self.filesystem.open_input_stream(str(PurePosixPath(self.path) / name)) as stream:
            return bytes(stream.read())

    def written(self, name: str) -> float | None:
        """When a file of this folder was written, in seconds since the epoch, where the storage tells."""
        with remote_errors(self):
            moment = self.filesystem.get_file_info(str(PurePosixPath(self.path) / name)).mtime
        return moment.timestamp() if moment is not None else None

    def child(self, name: str) -> Place:
        """A file or folder in this one."""
        return Place(self.filesystem, str(PurePosixPath(self.path) / name), f"{self.name}/{name}", self.secrets)


def local_path(where: Location) -> Path | None:
    """The path on this machine; none for remote storage."""
    match = _URI.fullmatch(str(where))
    # a URI that went through `Path` has lost a slash; a real folder of such a name wins
    if match is None or (not match[2] and Path(where).parent.exists()):
        return Path(where)
    if match[1].lower() != "file":
        return None
    return Path(unquote(urlsplit(_repaired(where)).path))


def open_place(where: Location) -> Place:
    """Connect to what a URI names.

    Raises:
        CheckpointError: `storage`: unknown scheme, no such bucket, no credentials, unreachable.
    """
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    uri = _repaired(where)
    blank = Place(None, "", redacted(uri), _secrets(uri))
    with remote_errors(blank):
        try:
            filesystem, path = FileSystem.from_uri(uri)
        except (ArrowException, ValueError):  # not one of pyarrow's own schemes
            from fsspec.core import url_to_fs

            inner, path = url_to_fs(uri)
            filesystem = PyFileSystem(FSSpecHandler(inner))
    return Place(filesystem, path.rstrip("/"), blank.name, blank.secrets)


def join(where: Location, name: str) -> str:
    """The URI of a file or folder below that of another; options after `?` stay."""
    parts = urlsplit(_repaired(where))
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def redacted(where: Location) -> str:
    """A location as it may be shown: without user, password and options."""
    if local_path(where) is not None:
        return str(where)
    parts = urlsplit(_repaired(where))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


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


def folders_in(place: Place) -> list[str]:
    """Names of the folders directly in a folder.

    Raises:
        CheckpointError: `missing` or `storage`.
    """
    from pyarrow.fs import FileSelector, FileType

    with remote_errors(place):
        infos = place.filesystem.get_file_info(FileSelector(place.path))
    return sorted(info.base_name for info in infos if info.type is FileType.Directory)


def is_whole(place: Place) -> bool:
    """Whether every file that the manifest lists is there with its size. Fetches the manifest only."""
    manifest = stored_manifest(place)
    if manifest is None:
        return False
    sizes = place.sizes(manifest.files)
    return all(sizes[name] == entry.size for name, entry in manifest.files.items())


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
            with (folder / name).open("rb") as source, place.filesystem.open_output_stream(
                place.child(name).path
            ) as target:  # fmt: skip
                shutil.copyfileobj(source, target, _CHUNK)
    if not is_whole(place):
        what = f"{place.name} is not whole after it was written: something else writes there too"
        raise CheckpointError(what, reason=RefusalReason.STORAGE, path=place.name, hint="give the command again")
    return True


@contextmanager
def remote_errors(place: Place) -> Iterator[None]:
    """Whatever a storage library raises, as one error that names the place and no secrets.

    Raises:
        CheckpointError: `missing` or `storage`.
    """
    try:
        yield
    except (OrchestratorError, AssertionError):
        raise
    except FileNotFoundError:
        what = f"there is no file or folder {place.name}"
        raise CheckpointError(what, reason=RefusalReason.MISSING, path=place.name, hint="check the address") from None
    except Exception as error:  # every storage library has errors of its own
        what = f"{place.name} cannot be used: {_without_secrets(error, place.secrets)}"
        hint = "check the address, the credentials and the network; `pip install s3fs` and the like add storages"
        # the cause is left out on purpose: its text may hold the credentials
        raise CheckpointError(what, reason=RefusalReason.STORAGE, path=place.name, hint=hint) from None


def _download(place: Place, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with remote_errors(place), place.filesystem.open_input_stream(place.path) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)


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


def _repaired(where: Location) -> str:
    """A URI with both its slashes."""
    match = _URI.fullmatch(str(where))
    return f"{match[1]}:/{match[2] or '/'}{match[3]}" if match else str(where)


def _secrets(uri: str) -> tuple[str, ...]:
    """What a URI holds beside the address."""
    parts = urlsplit(uri)
    user = parts.netloc.rpartition("@")[0]
    options: Mapping[str, str] = dict(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
    found = {parts.query, user, *user.split(":"), *options.values()}
    return tuple(sorted((text for text in (*found, *map(unquote, found)) if len(text) > 3), key=len, reverse=True))


def _without_secrets(error: Exception, secrets: Iterable[str]) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    for secret in secrets:
        text = text.replace(secret, "...")
    text = re.sub(r"(?i)((?:secret|token|password|signature|access[_-]?key)\w*[=:]\s*)\S+", r"\1...", text)
    return re.sub(r"://[^/@\s]+@", "://", text)[:300]


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
