"""What a shard file holds: the contract between the writer, the reader and anybody with plain pyarrow (version 2).

One record batch of one row is a *part*: up to 256 frames of one clip. A clip is consecutive parts, all but the last
with as many frames as the first, and its mel stands in the last one. Columns: `clip_id` string; `part` from 0;
`frames` large_binary; `num_frames`, `channels`, `height`, `width` of this part; `mel` large_binary, little-endian
float32 `(80, mel_columns)`, empty but in the last part; `mel_columns`; `ends`, the end of every frame's packet within
`frames` (compact only). The metadata names version, kind, preparation and, for compact, the codec's settings.
"""

# T frames, C channels, H W pixels, L mel columns

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.errors import DataError

SHARD_VERSION = 2
"""Changes whenever the columns or their meaning change."""
PART_FRAMES = 256
"""Most frames in one part."""
PART_BYTES = 48 << 20
"""Most bytes of frames in one part, before compression: what a writer holds in memory."""
HINT = "run `orchestrator prepare` into a new folder, or put the missing file back"
_PREFIX = "syncnet."
_INTEGERS = ("part", "num_frames", "channels", "height", "width", "mel_columns")
_FIELDS = [
    pa.field("clip_id", pa.string(), nullable=False),
    *(pa.field(name, pa.int32(), nullable=False) for name in _INTEGERS),
    pa.field("ends", pa.list_(pa.field("end", pa.int32(), nullable=False)), nullable=False),
    pa.field("frames", pa.large_binary(), nullable=False),
    pa.field("mel", pa.large_binary(), nullable=False),
]


class ShardKind(StrEnum):
    """How the frames of a shard are stored."""

    RAW = "raw"
    """uint8 RGB pixels `(T, 3, H, W)`: fastest to read, 2.5 MB per second of video."""
    COMPACT = "compact"
    """H.264 with many key frames: for object storage and slow disks."""
    LATENTS = "latents"
    """float16 `(T, C, h, w)`: what an image encoder made of every frame."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The number type of the frames that come out, little-endian."""
        return np.dtype("<f2" if self is ShardKind.LATENTS else np.uint8)


@dataclass(frozen=True)
class Header:
    """What is true of every clip in a shard."""

    kind: ShardKind
    """How frames are stored."""
    preparation: str
    """Fingerprint of the settings that made the clips."""
    codec: dict[str, Any] = field(default_factory=dict)
    """Settings of the compression; empty for the kinds without one."""

    def schema(self) -> pa.Schema:
        """The Arrow schema of such a shard."""
        codec = json.dumps(self.codec, sort_keys=True) if self.codec else ""
        values = {"shard_version": str(SHARD_VERSION), "kind": self.kind.value, "preparation": self.preparation}
        metadata = {f"{_PREFIX}{key}": value for key, value in {**values, "codec": codec}.items()}
        return pa.schema(_FIELDS, metadata)

    @classmethod
    def of(cls, schema: pa.Schema, path: str) -> Header:
        """The header in a file's schema.

        Raises:
            DataError: `shard_version` for another version of the format, `bad_shard` for other columns.
        """
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        version = metadata.get(f"{_PREFIX}shard_version", "none")
        if version != str(SHARD_VERSION):
            message = f"{path} has shard version {version}, but this version reads {SHARD_VERSION}"
            raise DataError(message, reason="shard_version", path=path, hint=HINT)
        if not schema.equals(pa.schema(_FIELDS)):
            raise DataError(f"{path} has other columns than a shard", reason="bad_shard", path=path, hint=HINT)
        codec = metadata[f"{_PREFIX}codec"]
        kind = ShardKind(metadata[f"{_PREFIX}kind"])
        return cls(kind, metadata[f"{_PREFIX}preparation"], json.loads(codec) if codec else {})


class Part(NamedTuple):
    """One row of a shard."""

    clip_id: str
    part: int
    num_frames: int
    channels: int
    height: int
    width: int
    mel_columns: int
    ends: NDArray[np.int32]
    """`(num_frames,)` for compact, else `(0,)`."""
    frames: Any
    """A buffer: `(num_frames, channels, height, width)` numbers, or packets one after the other."""
    mel: Any
    """A buffer: float32 `(80, mel_columns)`."""

    def batch(self, schema: pa.Schema) -> pa.RecordBatch:
        """The part as a record batch, around the buffers' own memory."""
        integers = (getattr(self, name) for name in _INTEGERS)
        columns: list[Any] = [
            pa.array([self.clip_id], pa.string()),
            *(pa.array([number], pa.int32()) for number in integers),
            pa.array([self.ends], _FIELDS[-3].type),
            _binary_column(self.frames),
            _binary_column(self.mel),
        ]
        return pa.record_batch(columns, schema=schema)

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Part:
        """The one row of a record batch, without a copy.

        Raises:
            ValueError: when the batch has not exactly one row.
        """
        if batch.num_rows != 1:
            raise ValueError(f"a record batch has {batch.num_rows} rows instead of one")
        columns = [batch.column(place) for place in range(len(_FIELDS))]
        values = {name: column[0].as_py() for name, column in zip(cls._fields[:-3], columns, strict=False)}
        ends, frames, mel = columns[-3].values.to_numpy(), _content(columns[-2]), _content(columns[-1])
        return cls(**values, ends=ends, frames=frames, mel=mel)


def _binary_column(content: Any) -> pa.Array:
    """A one-row binary column around a buffer's own memory: a part can be 100 MB, so it is not copied."""
    data = pa.py_buffer(content)
    offsets = pa.py_buffer(np.array([0, data.size], dtype=np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])


def _content(column: pa.Array) -> Any:
    """The buffer of a one-row binary column. Its scalar would be a copy."""
    _, offsets, data = column.buffers()
    first, last = np.frombuffer(offsets, dtype=np.int64, count=2)
    return pa.py_buffer(b"") if data is None else data.slice(int(first), int(last - first))
