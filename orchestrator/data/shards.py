"""Shards: Arrow IPC files with one clip per record batch, read through a memory map without a copy.

File contract (schema version 1), readable with plain pyarrow: columns `clip_id` string; `frames` large_binary, the
bytes of uint8 `(num_frames, 3, height, width)` RGB; `mel` large_binary, the bytes of little-endian float32
`(80, mel_columns)`; `num_frames`, `height`, `width`, `mel_columns` int32. The schema metadata holds
`syncnet.shard_version` and `syncnet.preparation`. The same rows give the same bytes.
"""

# T frames, H W pixels, L mel columns

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.config.media import N_MELS
from orchestrator.data.files import atomic_writer
from orchestrator.errors import DataError

SHARD_VERSION = 1
"""Changes whenever the columns or their meaning change."""
_VERSION_KEY = b"syncnet.shard_version"
_PREPARATION_KEY = b"syncnet.preparation"
_FIELDS = [
    pa.field("clip_id", pa.string(), nullable=False),
    pa.field("frames", pa.large_binary(), nullable=False),
    pa.field("mel", pa.large_binary(), nullable=False),
    pa.field("num_frames", pa.int32(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
    pa.field("mel_columns", pa.int32(), nullable=False),
]


@dataclass(frozen=True)
class ClipArrays:
    """One clip's arrays; as read from a shard they are read-only views of the memory map."""

    clip_id: str
    """The clip's unique name."""
    frames: NDArray[np.uint8]
    """`(T, 3, H, W)` RGB."""
    mel: NDArray[np.float32]
    """`(80, L)`."""


def write_shard(path: Path, clips: Iterable[ClipArrays], preparation: str) -> int:
    """Write clips to a new shard, atomically, and return how many there were.

    Args:
        path: the shard's final name.
        clips: taken one at a time, so that a generator keeps only one clip in memory.
        preparation: fingerprint of the settings that made the clips.
    """
    schema = pa.schema(_FIELDS, {_VERSION_KEY: str(SHARD_VERSION).encode(), _PREPARATION_KEY: preparation.encode()})
    count = 0
    with atomic_writer(path) as file, pa.ipc.new_file(file, schema) as writer:
        for clip in clips:
            writer.write_batch(_to_batch(clip, schema))
            count += 1
    return count


class ShardReader:
    """A shard behind a memory map. Holds no file descriptor; its views stay valid after the reader is gone.

    Raises:
        DataError: `missing`, `bad_shard` for a file that is not a whole shard, `shard_version` for another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Closing the map's file leaves its buffers mapped: thousands of open shards need no descriptors.
            with pa.memory_map(str(path)) as source:
                reader = pa.ipc.open_file(source)
                metadata = reader.schema.metadata or {}
                self._check_version(metadata)
                self.preparation: str = metadata[_PREPARATION_KEY].decode()
                self._clips = [_from_batch(reader.get_batch(row)) for row in range(reader.num_record_batches)]
        except FileNotFoundError as error:
            raise DataError(f"there is no shard {path}", reason="missing", path=str(path), hint=_HINT) from error
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            message = f"{path} is not a whole shard: {error}"
            raise DataError(message, reason="bad_shard", path=str(path), hint=_HINT) from error

    def __len__(self) -> int:
        return len(self._clips)

    def clip(self, row: int) -> ClipArrays:
        """The clip in this row, as zero-copy views.

        Raises:
            DataError: `bad_row` when the shard has no such row.
        """
        if not 0 <= row < len(self._clips):
            message = f"{self.path} has {len(self._clips)} clips, but row {row} was asked for"
            raise DataError(message, reason="bad_row", path=str(self.path), hint=_HINT)
        return self._clips[row]

    def _check_version(self, metadata: dict[bytes, bytes]) -> None:
        version = metadata.get(_VERSION_KEY, b"none").decode()
        if version != str(SHARD_VERSION):
            message = f"{self.path} has shard version {version}, but this version reads {SHARD_VERSION}"
            raise DataError(message, reason="shard_version", path=str(self.path), hint=_HINT)


_HINT = "run `orchestrator prepare` into a new folder, or put the missing file back"


def _to_batch(clip: ClipArrays, schema: pa.Schema) -> pa.RecordBatch:
    num_frames, _, height, width = clip.frames.shape
    columns: list[Any] = [
        pa.array([clip.clip_id], pa.string()),
        _binary_column(np.ascontiguousarray(clip.frames, dtype=np.uint8)),
        _binary_column(np.ascontiguousarray(clip.mel, dtype="<f4")),
        *(pa.array([number], pa.int32()) for number in (num_frames, height, width, clip.mel.shape[1])),
    ]
    return pa.record_batch(columns, schema=schema)


def _binary_column(array: NDArray[Any]) -> pa.Array:
    """A one-row binary column around the array's own memory: a clip can be a gigabyte, so it is not copied."""
    offsets = pa.py_buffer(np.array([0, array.nbytes], dtype=np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(array)])


def _from_batch(batch: pa.RecordBatch) -> ClipArrays:
    num_frames, height, width, columns = (batch.column(k)[0].as_py() for k in range(3, 7))
    frames = np.frombuffer(batch.column(1)[0].as_buffer(), dtype=np.uint8)
    mel = np.frombuffer(batch.column(2)[0].as_buffer(), dtype="<f4")
    return ClipArrays(
        clip_id=batch.column(0)[0].as_py(),
        frames=frames.reshape(num_frames, 3, height, width),
        mel=mel.reshape(N_MELS, columns),
    )
