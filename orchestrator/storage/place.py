"""Places in remote storage, through pyarrow's file systems and fsspec's.

`s3://`, `gs://`, `hdfs://`, `abfs://` by pyarrow; `memory://` and all else that fsspec knows by fsspec. Files are
streamed, a few megabytes at a time, and never (de)compressed by the ending of their name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from orchestrator.errors import OrchestratorError, StorageError
from orchestrator.storage.addresses import Location, escaped, redacted, repaired, secrets_of, without_secrets
from orchestrator.storage.base import CHUNK
from orchestrator.storage.bounds import bounded, in_time, require_answer

_SAID_BY = ("AWS_", "GOOGLE_", "AZURE_", "HADOOP_")
"""How the variables begin that tell storage libraries who somebody is."""


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
        paths = {self.child(name).path: name for name in names}
        with remote_errors(self):
            infos = self.filesystem.get_file_info(list(paths))
        return {paths[info.path]: info.size if info.is_file else None for info in infos}

    def read(self, name: str) -> bytes | None:
        """All of a small file of this folder; none when it is missing."""
        if self.sizes([name])[name] is None:
            return None
        with remote_errors(self), self.child(name).input_stream() as stream:
            return bytes(stream.read())

    def written(self, name: str) -> float | None:
        """When a file of this folder was written, in seconds since the epoch, where the storage tells."""
        with remote_errors(self):
            moment = self.filesystem.get_file_info(self.child(name).path).mtime
        return moment.timestamp() if moment is not None else None

    def child(self, name: str) -> Place:
        """A file or folder in this one."""
        return Place(self.filesystem, str(PurePosixPath(self.path) / name), f"{self.name}/{name}", self.secrets)

    def input_stream(self) -> Any:
        """A `pyarrow.NativeFile` of its bytes as they are; pyarrow would unpack a `.gz`."""
        return self.filesystem.open_input_stream(self.path, compression=None)

    def output_stream(self) -> Any:
        """A `pyarrow.NativeFile` to write to. Closing it publishes what was written, also after an error."""
        return self.filesystem.open_output_stream(self.path, compression=None)


def open_place(where: Location) -> Place:
    """Connect to what a URI names.

    Raises:
        StorageError: unknown scheme, no such bucket, no credentials, unreachable.
    """
    # who has other credentials now gets another connection
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith(_SAID_BY)))
    return _opened(repaired(where), environment)


@lru_cache(maxsize=256)
def _opened(uri: str, _environment: tuple[tuple[str, str], ...]) -> Place:
    """Connections are kept: finding the region of a bucket, and opening one, take a request each."""
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    blank = Place(None, "", redacted(uri), secrets_of(uri))
    with remote_errors(blank):
        try:
            filesystem, path = in_time(lambda: FileSystem.from_uri(escaped(uri)))
            filesystem = bounded(filesystem)
            require_answer(filesystem, path, _without_path(uri))
        except (ArrowException, ValueError):  # not one of pyarrow's own schemes
            from fsspec.core import url_to_fs

            inner, path = url_to_fs(uri)
            filesystem = PyFileSystem(FSSpecHandler(inner))
    return Place(filesystem, path.rstrip("/") or path, blank.name, blank.secrets)


def download(place: Place, target: Path) -> None:
    """Copy a file to this machine.

    Raises:
        StorageError: the storage does not give it (`missing` when it is not there).
        OSError: it cannot be written here.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        copy(place, file)


def copy(place: Place, target: BinaryIO) -> None:
    """Write all of a file into an open one; what the target raises is passed on.

    Raises:
        StorageError: the storage does not give it (`missing` when it is not there).
    """
    with remote_errors(place):
        stream = place.input_stream()
    with stream:
        while chunk := _next(place, stream):
            target.write(chunk)


@contextmanager
def remote_errors(place: Place) -> Iterator[None]:
    """Whatever a storage library raises, as one error that names the place and no secrets.

    Raises:
        StorageError: see there.
    """
    try:
        yield
    except (OrchestratorError, AssertionError):
        raise
    except FileNotFoundError:
        what = f"there is no file or folder {place.name}"
        raise StorageError(what, missing=True, path=place.name, hint="check the address") from None
    except Exception as error:  # every storage library has errors of its own
        what = f"{place.name} cannot be used: {without_secrets(error, place.secrets)}"
        hint = "check the address, the credentials and the network; `pip install s3fs` and the like add storages"
        # the cause is left out on purpose: its text may hold the credentials
        raise StorageError(what, path=place.name, hint=hint) from None


def _without_path(uri: str) -> str:
    """Which storage, and as whom: everything of a URI but the path."""
    return urlunsplit(urlsplit(uri)._replace(path=""))


def _next(place: Place, stream: Any) -> bytes:
    with remote_errors(place):
        return bytes(stream.read(CHUNK))
