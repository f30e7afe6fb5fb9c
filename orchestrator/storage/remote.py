"""Folders in object storage or any other file system that pyarrow or fsspec knows.

Why files are written under a hidden name and then moved: closing a stream of pyarrow publishes what was written so far,
also when it is closed because of an error, and it has no way to give an upload up.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from orchestrator.errors import StorageError
from orchestrator.storage.addresses import inside, join
from orchestrator.storage.base import Entry, is_hidden
from orchestrator.storage.local import temporary_name
from orchestrator.storage.place import Place, copy, download, open_place, remote_errors

_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")
"""What the file systems of fsspec call the time of the last write."""
_MOST_MOVED = {"s3": 5 << 30}
"""Bytes of the largest file that a storage moves in one request."""
_READINGS = 10
"""How often a file is read that is replaced meanwhile."""
_OBJECT_STORES = frozenset({"s3", "gcs"})
"""They have no folders; making one leaves an empty object."""


class RemoteFolder:
    """A folder behind a URI; see `Folder`."""

    local_path = None

    def __init__(self, uri: str, place: Place) -> None:
        self.uri = uri
        self.name = place.name
        self._place = place

    @classmethod
    def open(cls, uri: str) -> RemoteFolder:
        """Connect to the storage.

        Raises:
            StorageError: unknown scheme, no such bucket, no credentials, unreachable.
        """
        return cls(uri, open_place(uri))

    def read(self, name: str) -> bytes:
        """All of a small file, as it was at one moment.

        A stream asks for the length first and then for as many bytes: of a file that is replaced in between it gives a
        part, which its length after that tells.
        """
        place = self._at(name)
        with remote_errors(place):
            for _ in range(_READINGS):
                with place.input_stream() as stream:
                    content = bytes(stream.read())
                if place.filesystem.get_file_info(place.path).size in (len(content), None):
                    return content
        what = f"{place.name} was replaced each of {_READINGS} times that it was read"
        raise StorageError(what, path=place.name, hint="give the command again")

    def entries(self, below: str = "") -> list[Entry]:
        """All visible files."""
        place = self._at(below)
        with remote_errors(place):
            found = list(_listed(place))
        start = f"{self._place.path.rstrip('/')}/"
        relative = [Entry(entry.name.removeprefix(start), entry.size, entry.mtime_ns) for entry in found]
        return sorted((entry for entry in relative if not is_hidden(entry.name)), key=lambda entry: entry.name)

    def entry(self, name: str) -> Entry | None:
        """A file's size and time; none when there is no such file."""
        place = self._at(name)
        with remote_errors(place), contextlib.suppress(FileNotFoundError):
            inner = _fsspec(place)
            if inner is not None:
                info = inner.info(place.path)
                return _of_fsspec(name, info) if info["type"] == "file" else None
            found = place.filesystem.get_file_info(place.path)
            return Entry(name, found.size, found.mtime_ns or 0) if found.is_file else None
        return None

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """A binary file that appears under its name, complete, only if the block ends without an error."""
        target = self._at(name)
        above = PurePosixPath(name).parent.as_posix()
        partial = self._at(above).child(temporary_name(PurePosixPath(name).name))
        with remote_errors(target):
            if target.filesystem.type_name not in _OBJECT_STORES and self._at(above).path.strip("/"):
                target.filesystem.create_dir(self._at(above).path, recursive=True)
            stream = partial.output_stream()
        upload = _Upload(stream, target)
        try:
            yield cast(BinaryIO, upload)
            upload.publish()
            with remote_errors(target):
                _move(partial, target)
        except BaseException:
            _give_up(upload, partial)
            raise

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file: one request where that appears whole or not at all."""
        target = self._at(name)
        if target.filesystem.type_name not in _OBJECT_STORES:
            with self.writer(name) as file:
                file.write(content)
            return
        with remote_errors(target), target.output_stream() as stream:
            stream.write(content)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A temporary copy that is gone afterwards."""
        place = self._at(name)
        with tempfile.TemporaryDirectory(prefix="syncnet-fetch-") as folder:
            path = Path(folder) / PurePosixPath(name).name
            try:
                download(place, path)
            except OSError as error:
                what = f"{place.name} cannot be copied to {folder}: {error.strerror or error}"
                hint = "free some space, or set TMPDIR to a folder on another disk"
                raise StorageError(what, path=place.name, hint=hint) from error
            yield path

    def copy(self, name: str, target: BinaryIO) -> None:
        """Write all of a file into an open one."""
        copy(self._at(name), target)

    def delete(self, name: str) -> None:
        """Remove a file; it may be gone already."""
        place = self._at(name)
        with remote_errors(place), contextlib.suppress(FileNotFoundError):
            _delete(place)

    def child(self, name: str) -> RemoteFolder:
        """A folder in this one."""
        return RemoteFolder(join(self.uri, inside(self.name, name)), self._at(name))

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteFolder.open, (self.uri,)

    def __repr__(self) -> str:
        return f"RemoteFolder({self.name!r})"

    def _at(self, name: str) -> Place:
        plain = inside(self.name, name)
        return self._place if plain == "." else self._place.child(plain)


class _Upload(io.RawIOBase):
    """What a block writes to: the stream's errors become errors that name the place."""

    def __init__(self, stream: Any, place: Place) -> None:
        self.failed = False
        """Whether the storage has failed to take something."""
        self._stream = stream
        self._place = place
        self._written = 0
        self._most = _MOST_MOVED.get(place.filesystem.type_name, sys.maxsize)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._written += size
        if self._written > self._most:
            what = f"{self._place.name} gets larger than {self._most:,} bytes, which this storage cannot move"
            raise StorageError(what, path=self._place.name, hint="write smaller files, e.g. fewer clips to a shard")
        with self._watched():
            self._stream.write(data)
        return size

    def tell(self) -> int:
        return self._written

    def publish(self) -> None:
        """Close the stream, with which the file appears."""
        with self._watched():
            self._stream.close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            with remote_errors(self._place):
                yield
        except Exception:
            self.failed = True
            raise


def _give_up(upload: _Upload, partial: Place) -> None:
    """Leave nothing of an upload that failed; the error that is told is the first one."""
    with contextlib.suppress(Exception):
        upload.publish()
    if upload.failed and partial.filesystem.type_name in _OBJECT_STORES:
        return  # nothing has appeared, and a storage that does not answer is not asked for another minute
    with contextlib.suppress(Exception):
        _delete(partial)


def _move(partial: Place, target: Place) -> None:
    """Give a finished file its name; some file systems do not move onto a file that is there."""
    try:
        _rename(partial, target)
    except Exception:
        if not target.filesystem.get_file_info(target.path).is_file:
            raise
        _delete(target)
        _rename(partial, target)


def _rename(source: Place, target: Place) -> None:
    from fsspec import AbstractFileSystem

    inner = _fsspec(source)
    if inner is None:
        source.filesystem.move(source.path, target.path)
    elif type(inner).mv is not AbstractFileSystem.mv:
        inner.mv(source.path, target.path)
    else:  # the general `mv` is a copy too, but takes names with `[`, `?` and `*` for patterns
        inner.cp_file(source.path, target.path)
        inner.rm_file(source.path)


def _delete(place: Place) -> None:
    """Remove one file. Through pyarrow, fsspec would take its name for a pattern."""
    inner = _fsspec(place)
    if inner is None:
        place.filesystem.delete_file(place.path)
    else:
        inner.rm_file(place.path)


def _listed(place: Place) -> Iterator[Entry]:
    """All files below a place, under their whole paths."""
    from pyarrow.fs import FileSelector

    inner = _fsspec(place)
    if inner is not None:
        with contextlib.suppress(FileNotFoundError):
            for path, info in inner.find(place.path, detail=True).items():
                yield _of_fsspec(path, info)
        return
    for info in place.filesystem.get_file_info(FileSelector(place.path, recursive=True, allow_not_found=True)):
        if info.is_file:
            yield Entry(info.path, info.size, info.mtime_ns or 0)


def _fsspec(place: Place) -> Any:
    """The fsspec file system behind pyarrow's, whose times pyarrow drops; none for others. Forgets its listings."""
    handler = getattr(place.filesystem, "handler", None)
    inner = getattr(handler, "fs", None)
    if inner is not None:
        inner.invalidate_cache()
    return inner


def _of_fsspec(name: str, info: Mapping[str, Any]) -> Entry:
    moment = next((info[key] for key in _TIMES if info.get(key)), 0)
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    seconds = moment.timestamp() if isinstance(moment, datetime) else float(moment)
    return Entry(name, int(info.get("size") or 0), round(seconds * 1e6) * 1000)
