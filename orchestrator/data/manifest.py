"""The manifest: one Parquet file that says of every source clip what became of it.

File contract (version 3): `manifest.parquet` in the prepared folder, one row per source in the order of `clip_id`,
columns as the fields of `ManifestRow`. Rejected clips stay in it with their reason, so that nothing disappears
silently. A hundred thousand rows are read in about half a second. The schema's metadata may hold the history of its
revisions (`versions.py`). Version 2 had no `language`, `tag`, `audit` and `confidence`, and is read as if nobody had
said anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import DataError, StorageError
from orchestrator.storage import Folder

MANIFEST_NAME = "manifest.parquet"
MANIFEST_VERSION = 3
"""Changes whenever the columns or their meaning change."""
_NEW_COLUMNS = {3: ("language", "tag", "audit", "confidence")}
"""Which columns came with which version, always at the end; version 2 is the oldest that is read."""
_VERSION_KEY = b"syncnet.manifest_version"
_HISTORY_KEY = b"syncnet.manifest_history"
_HINT = "run `orchestrator prepare VIDEOS --out DIR` and give that DIR"
_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bytes": pa.binary()}


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One source clip."""

    clip_id: str
    """Unique name: the relative path and the start of the content's fingerprint."""
    source: str
    """POSIX path relative to the folder of videos."""
    fingerprint: str
    """SHA-256 of the source file; empty when it could not be read."""
    status: str
    """`ok` or `rejected`."""
    reason: str = ""
    """Short code of the rejection, e.g. `no_audio`; empty when ok."""
    detail: str = ""
    """The rejection in a sentence."""
    speaker: str = ""
    """Who speaks, by the path."""
    split: str = ""
    """`train` or `val`; empty when nothing of it is stored."""
    num_frames: int = 0
    """Frames at 25 per second."""
    duration_s: float = 0.0
    """num_frames / 25."""
    height: int = 0
    """Pixels of a stored frame."""
    width: int = 0
    """Pixels of a stored frame."""
    rms: float = 0.0
    """Root mean square of the wave in [-1, 1]."""
    shard: str = ""
    """Shard file relative to the prepared folder; empty when preparation rejected it. A clip that was rejected later
    keeps its place, so that it can come back."""
    row: int = -1
    """First row in the shard; -1 when nothing is stored."""
    preparation: str = ""
    """Fingerprint of the settings that prepared it."""
    channels: int = 3
    """Channels of a stored frame: 3 for RGB, 4 for the usual latents."""
    rows: int = 0
    """Rows in the shard; 0 when nothing is stored."""
    av_offset_s: float = 0.0
    """How much later the sound comes than the picture, in seconds: picture time t is heard at t + av_offset_s."""
    speech: bytes = b""
    """`numpy.packbits` of one bit per frame: speech is heard in it. Empty when that was not looked at."""
    origin: str = ""
    """The raw video behind an aligned one; empty when there is none."""
    language: str = ""
    """What is spoken, e.g. `en`; empty when nobody said."""
    tag: str = ""
    """The data set or site that it comes from; empty when nobody said."""
    audit: str = ""
    """What the last audit said of it, a short code such as `in_sync`, or `revised`; empty when nobody revised it."""
    confidence: float = 0.0
    """How sure the audit was of the offset, by the audit's own measure."""

    @property
    def ok(self) -> bool:
        """Whether the clip can be used."""
        return self.status == "ok"


def write_manifest(folder: Folder, rows: Iterable[ManifestRow], history: str = "") -> None:
    """Write `manifest.parquet` as a whole, rows in the order of `clip_id`.

    Args:
        folder: the prepared folder.
        rows: all rows.
        history: what `versions.py` keeps in it; empty when it was never revised.

    Raises:
        StorageError: the folder cannot be written.
    """
    ordered = sorted(rows, key=lambda row: row.clip_id)
    metadata = {_VERSION_KEY: str(MANIFEST_VERSION)} | ({_HISTORY_KEY: history} if history else {})
    schema = _schema(MANIFEST_VERSION).with_metadata(metadata)
    columns = [pa.array([getattr(row, field.name) for row in ordered], field.type) for field in schema]
    with folder.writer(MANIFEST_NAME) as file:
        pq.write_table(pa.table(columns, schema=schema), file, write_page_checksum=True)


def read_manifest(folder: Folder) -> list[ManifestRow]:
    """All rows of a prepared folder's manifest.

    Raises:
        DataError: `no_manifest` when there is none, `bad_manifest` when it cannot be read or has another version.
        StorageError: the storage does not answer.
    """
    return parse_manifest(manifest_bytes(folder), f"{folder.name}/{MANIFEST_NAME}")[0]


def manifest_bytes(folder: Folder) -> bytes:
    """The content of a prepared folder's manifest.

    Raises:
        DataError: `no_manifest` when there is none.
        StorageError: the storage does not answer.
    """
    try:
        return folder.read(MANIFEST_NAME)
    except StorageError as error:
        if not error.missing:
            raise
        message = f"{folder.name} is not a prepared corpus: it has no {MANIFEST_NAME}"
        raise DataError(message, reason="no_manifest", path=folder.name, hint=_HINT) from error


def parse_manifest(content: bytes, where: str) -> tuple[list[ManifestRow], str]:
    """The rows of a manifest and the history in it, as `write_manifest` took them.

    Args:
        content: the file.
        where: its name, for messages.

    Raises:
        DataError: `bad_manifest` when it cannot be read or has another version.
    """
    try:
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
        if not table.schema.equals(_schema(_checked_version(where, table.schema))):
            raise TypeError(f"its columns are {', '.join(table.schema.names)}")
        rows = [ManifestRow(*values) for values in zip(*map(_values, table.columns), strict=True)]
        return rows, (table.schema.metadata or {}).get(_HISTORY_KEY, b"").decode()
    except (pa.ArrowException, OSError, TypeError, UnicodeDecodeError) as error:
        message = f"{where} cannot be read: {error}"
        raise DataError(message, reason="bad_manifest", path=where, hint=_HINT) from error


def _checked_version(name: str, schema: pa.Schema) -> int:
    readable = {str(version): version for version in (min(_NEW_COLUMNS) - 1, *_NEW_COLUMNS)}
    version = (schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version not in readable:
        message = f"the manifest of {name} has version {version}, but this version reads {MANIFEST_VERSION}"
        hint = "prepare the videos again, into a new folder"
        raise DataError(message, reason="bad_manifest", path=name, hint=hint)
    return readable[version]


def _schema(version: int) -> pa.Schema:
    later = {name for since, names in _NEW_COLUMNS.items() if since > version for name in names}
    names = [field for field in fields(ManifestRow) if field.name not in later]
    return pa.schema([pa.field(field.name, _TYPES[str(field.type)], nullable=False) for field in names])


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python values, by way of numpy: ten times faster than Arrow's own conversion."""
    return list(column.to_numpy().tolist())
