"""Shards on this node's disk: where they are, or a copy that is made once however many processes ask for it.

Without a cache folder a local corpus is read where it is, and a remote one is downloaded to `$SYNCNET_CACHE` (or
`~/.cache/syncnet-orchestrator`). With one, every shard is copied there, and a compact shard becomes raw on the way.
Layout: `<cache>/<hash of the corpus's address>/<shard>/{stored,raw}.arrow`, each with a `.json` that says of which
version of the shard it is the copy.
Promises: a copy is whole or not there; one that was damaged, cut short or changed, and one of a shard that was
written anew, is made again; only the holder of the shard's lock makes one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock

from orchestrator.data.shards import ShardKind, ShardReader
from orchestrator.data.shards.raw import raw_size, write_raw
from orchestrator.errors import DataError, StorageError
from orchestrator.storage import Entry, Folder, atomic_writer

CACHE_VARIABLE = "SYNCNET_CACHE"
"""The environment variable that names the folder for copies of remote shards."""
_SPARE = 256 << 20
"""Bytes of the disk that no copy takes."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class _Stamp:
    """What a copy was made of, and how it looked when it was finished."""

    source_size: int
    source_mtime_ns: int
    size: int
    mtime_ns: int


class ShardCache:
    """The shards of one corpus as local files. Safe to use from many threads, processes and nodes.

    Args:
        folder: the corpus.
        cache: a folder for copies on this node's own disk; none reads a local corpus where it is.
        free_space: how many bytes are left on the disk of a folder; for tests.
    """

    def __init__(
        self,
        folder: Folder,
        cache: Path | None,
        *,
        free_space: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self.folder = folder
        self._explicit = cache is not None
        self._local = folder.local_path
        self._root = (cache or default_cache()) / _key(folder.uri)
        self._free_space = free_space
        self._found: dict[str, Path] = {}
        self._warned = False

    def path(self, name: str) -> Path:
        """A shard as a file on this node. The first call for a shard may take as long as its download.

        Args:
            name: POSIX path relative to the corpus.

        Raises:
            DataError: `missing`; `disk_full` when a remote shard does not fit; `cache` when the folder cannot be used.
            StorageError: the storage fails.
        """
        if self._local and not self._explicit:
            return self._local / name
        found = self._found.get(name)
        if found is None or not found.exists():
            found = self._found[name] = self._copy(name)
        return found

    def _copy(self, name: str) -> Path:
        source = self.folder.entry(name)
        if source is None:
            message = f"there is no shard {name} in {self.folder.name}"
            hint = "run `orchestrator prepare` again into this folder"
            raise DataError(message, reason="missing", path=name, hint=hint)
        folder = self._shard_folder(name)
        with _disk_errors(folder):
            if self._explicit and _is_copy(folder / "raw.arrow", source):
                return folder / "raw.arrow"
            stored = self._local / name if self._local else self._made(folder / "stored.arrow", source)
            return self._fastest(stored, source, folder) if self._explicit else stored

    def _fastest(self, stored: Path, source: Entry, folder: Path) -> Path:
        """A compact shard as a raw one, any other as a copy in the cache; as it is when the disk has no room."""
        reader = ShardReader(stored)
        try:
            if reader.kind is ShardKind.COMPACT:
                return self._made(folder / "raw.arrow", source, reader)
            if self._local:
                return self._made(folder / "stored.arrow", source)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._warn(folder)
        return stored

    def _made(self, target: Path, source: Entry, compact: ShardReader | None = None) -> Path:
        """A copy of a shard, or the raw form of a compact one; made now unless somebody has made it.

        Raises:
            OSError: ENOSPC, before anything is written when it can be foreseen.
        """
        if _is_copy(target, source):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / ".lock"):
            if _is_copy(target, source):  # made by another process while this one waited
                return target
            for leftover in target.parent.glob(".*.tmp"):  # of a killed process: only the lock's holder writes here
                leftover.unlink(missing_ok=True)
            self._require_room(target.parent, source.size if compact is None else raw_size(compact))
            with atomic_writer(target) as file:
                self._fetch(source, file) if compact is None else write_raw(compact, file)
            _sign(target, source)
        return target

    def _fetch(self, source: Entry, file: BinaryIO) -> None:
        self.folder.copy(source.name, file)
        if file.tell() != source.size:
            what = f"{source.name} of {self.folder.name} has {source.size:,} bytes, but {file.tell():,} were received"
            raise StorageError(what, path=source.name, hint="give the command again; the storage or the network failed")

    def _require_room(self, folder: Path, size: int) -> None:
        free = max(self._free_space(folder) - _SPARE, 0)
        if free < size:
            raise OSError(errno.ENOSPC, f"{size:,} bytes are needed, but only {free:,} can be used")

    def _warn(self, folder: Path) -> None:
        if not self._warned:
            self._warned = True
            what = f"{folder} has no room for a copy of the shards of {self.folder.name}"
            hint = "free some space, or set `data.cache` to a folder on another disk"
            warnings.warn(f"{what}: some are read as they are, which is slower; {hint}", stacklevel=2)

    def _shard_folder(self, name: str) -> Path:
        # one readable level per shard: a name may be long, or of another alphabet
        return self._root / f"{Path(name).stem[:40]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"


def default_cache() -> Path:
    """Where copies of remote shards go when no folder is given."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "syncnet-orchestrator")


def _key(uri: str) -> str:
    """A corpus's address, without credentials: they may change, the shards do not."""
    parts = urlsplit(uri)
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return hashlib.sha256(os.fsencode(plain)).hexdigest()[:16]


def _stamp_path(copy: Path) -> Path:
    return copy.with_suffix(".json")


def _is_copy(copy: Path, source: Entry) -> bool:
    """Whether a file is the whole and untouched copy of this version of a shard."""
    try:
        stamp = _Stamp(**json.loads(_stamp_path(copy).read_bytes()))
        status = copy.stat()
    except (OSError, ValueError, TypeError):
        return False
    return stamp == _Stamp(source.size, source.mtime_ns, status.st_size, status.st_mtime_ns)


def _sign(copy: Path, source: Entry) -> None:
    status = copy.stat()
    stamp = _Stamp(source.size, source.mtime_ns, status.st_size, status.st_mtime_ns)
    with atomic_writer(_stamp_path(copy)) as file:
        file.write(json.dumps(asdict(stamp)).encode())


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """A full disk and missing rights in one message.

    Raises:
        DataError: `disk_full` or `cache`.
    """
    try:
        yield
    except OSError as error:
        reason = "disk_full" if error.errno in _FULL else "cache"
        message = f"no copy of a shard can be made in {folder}: {error.strerror or error}"
        hint = f"free some space, or name a folder on another disk with `data.cache` or ${CACHE_VARIABLE}"
        raise DataError(message, reason=reason, path=str(folder), hint=hint) from error
