"""The manifest: one Parquet file that says of every source clip what became of it.

File contract (version 2): `manifest.parquet` in the prepared folder, one row per source in the order of `clip_id`,
columns as the fields of `ManifestRow`. Rejected clips stay in it with their reason, so that nothing disappears
silently. A hundred thousand rows are read in about half a second.
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
MANIFEST_VERSION = 2
"""Changes whenever the columns or their meaning change."""
_VERSION_KEY = b"syncnet.manifest_version"
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
    """`train` or `val`; empty when rejected."""
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
    """Shard file relative to the prepared folder; empty when rejected."""
    row: int = -1
    """First row in the shard; -1 when rejected."""
    preparation: str = ""
    """Fingerprint of the settings that prepared it."""
    channels: int = 3
    """Channels of a stored frame: 3 for RGB, 4 for the usual latents."""
    rows: int = 0
    """Rows in the shard; 0 when rejected."""
    av_offset_s: float = 0.0
    """How much later the sound comes than the picture, in seconds: picture time t is heard at t + av_offset_s."""
    speech: bytes = b""
    """`numpy.packbits` of one bit per frame: speech is heard in it. Empty when that was not looked at."""
    origin: str = ""
    """The raw video behind an aligned one; empty when there is none."""

    @property
    def ok(self) -> bool:
        """Whether the clip can be used."""
        return self.status == "ok"


def write_manifest(folder: Folder, rows: Iterable[ManifestRow]) -> None:
    """Write `manifest.parquet` as a whole, rows in the order of `clip_id`.

    Raises:
        StorageError: the folder cannot be written.
    """
    ordered = sorted(rows, key=lambda row: row.clip_id)
    columns = [pa.array([getattr(row, field.name) for row in ordered], field.type) for field in _schema()]
    with folder.writer(MANIFEST_NAME) as file:
        pq.write_table(pa.table(columns, schema=_schema()), file, write_page_checksum=True)


def read_manifest(folder: Folder) -> list[ManifestRow]:
    """All rows of a prepared folder's manifest.

    Raises:
        DataError: `no_manifest` when there is none, `bad_manifest` when it cannot be read or has another version.
        StorageError: the storage does not answer.
    """
    where = f"{folder.name}/{MANIFEST_NAME}"
    try:
        table = pq.read_table(pa.BufferReader(folder.read(MANIFEST_NAME)), page_checksum_verification=True)
        _check_version(where, table.schema)
        if not table.schema.equals(_schema()):
            raise TypeError(f"its columns are {', '.join(table.schema.names)}")
        return [ManifestRow(*values) for values in zip(*map(_values, table.columns), strict=True)]
    except StorageError as error:
        if not error.missing:
            raise
        message = f"{folder.name} is not a prepared corpus: it has no {MANIFEST_NAME}"
        raise DataError(message, reason="no_manifest", path=folder.name, hint=_HINT) from error
    except (pa.ArrowException, OSError, TypeError) as error:
        message = f"{where} cannot be read: {error}"
        raise DataError(message, reason="bad_manifest", path=where, hint=_HINT) from error


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python values, by way of numpy: ten times faster than Arrow's own conversion."""
    return list(column.to_numpy().tolist())


def _schema() -> pa.Schema:
    columns = [pa.field(field.name, _TYPES[str(field.type)], nullable=False) for field in fields(ManifestRow)]
    return pa.schema(columns, {_VERSION_KEY: str(MANIFEST_VERSION).encode()})


def _check_version(name: str, schema: pa.Schema) -> None:
    version = (schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version != str(MANIFEST_VERSION):
        message = f"the manifest of {name} has version {version}, but this version reads {MANIFEST_VERSION}"
        hint = "prepare the videos again, into a new folder"
        raise DataError(message, reason="bad_manifest", path=name, hint=hint)
