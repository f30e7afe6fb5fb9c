"""A shard of any pixels as a raw one: larger, and read without decoding. Rows stay where they are."""

# n T frames, C channels, H W pixels

from __future__ import annotations

from typing import BinaryIO

from orchestrator.data.shards.reader import ShardReader
from orchestrator.data.shards.schema import HINT, ShardKind
from orchestrator.data.shards.writer import ShardWriter
from orchestrator.errors import DataError

_AT_ONCE = 64
"""Frames that are decoded at a time: 6 MB of 128x256 pixels."""
_ROW_BYTES = 4096
"""More than Arrow needs for a row beside its frames and mel."""


def write_raw(reader: ShardReader, file: BinaryIO) -> None:
    """Write the clips of a shard, decoded, as a raw shard in which every clip has the same rows.

    Raises:
        DataError: `bad_shard` for damage.
    """
    with ShardWriter(file, ShardKind.RAW, reader.preparation) as writer:
        for row, rows in reader.clips():
            clip = reader.clip(row, rows)
            with writer.add_clip(clip.clip_id) as target:
                for start in range(0, clip.num_frames, _AT_ONCE):
                    target.frames(clip.view(start, min(_AT_ONCE, clip.num_frames - start)))
                target.mel(clip.mel)
            if writer.rows != row + rows:
                message = f"{reader.path} holds {clip.clip_id} in {rows} rows, but raw it has {writer.rows - row}"
                raise DataError(message, reason="bad_shard", path=str(reader.path), hint=HINT)


def raw_size(reader: ShardReader) -> int:
    """Bytes that the raw form takes at most."""
    return sum(_row_size(reader, row) for row in range(len(reader)))


def _row_size(reader: ShardReader, row: int) -> int:
    batch = reader.batch(row)
    frames = 1
    for name in ("num_frames", "channels", "height", "width"):
        frames *= batch.column(name)[0].as_py()
    return int(frames + batch.column("mel").nbytes + _ROW_BYTES)
