"""Writing shards: frames come in chunks of any size, memory holds one part of one clip.

Promises: the bytes are a pure function of the header and of the clips, not of the chunks they came in; a clip copied
from another shard gives the bytes that writing it here would give; a shard whose writing failed is not a whole shard.
"""

# n T frames, C channels, H W pixels, L mel columns

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.config.media import N_MELS
from orchestrator.data.shards.h264 import SETTINGS, PictureEncoder
from orchestrator.data.shards.reader import ShardReader
from orchestrator.data.shards.schema import PART_BYTES, PART_FRAMES, Header, Part, ShardKind
from orchestrator.errors import DataError

_NO_ENDS = np.zeros(0, dtype=np.int32)


class ShardWriter:
    """Writes one shard into an open file. Use it in a `with`; the file is whole when the block ends without an error.

    Args:
        file: open for writing bytes; it stays open.
        kind: how frames are stored.
        preparation: fingerprint of the settings that made the clips.
    """

    def __init__(self, file: BinaryIO, kind: ShardKind, preparation: str) -> None:
        kind = ShardKind(kind)
        self.header = Header(kind, preparation, SETTINGS if kind is ShardKind.COMPACT else {})
        self.rows = 0
        """Rows written so far: where the next clip starts."""
        self._schema = self.header.schema()
        self._writer = pa.ipc.new_file(file, self._schema)
        self._memory: dict[int, NDArray[np.uint8]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:  # without its footer a file is no shard, which is right after an error
            self._writer.close()

    @contextmanager
    def add_clip(self, clip_id: str) -> Iterator[ClipWriter]:
        """A writer of the next clip, which is complete when the block ends.

        Raises:
            DataError: `bad_clip` when frames or mel are missing or do not fit together.
        """
        clip = ClipWriter(self, clip_id)
        yield clip
        clip.finish()

    def copy_clip(self, reader: ShardReader, row: int, rows: int) -> int:
        """Append a clip of another shard as it is, and return its first row here.

        Raises:
            DataError: `other_shard` when kind, preparation or codec differ; as `ShardReader.clip`.
        """
        if reader.header != self.header:
            message = f"a clip of {reader.path} ({_say(reader.header)}) does not fit a shard of {_say(self.header)}"
            raise DataError(message, reason="other_shard", path=str(reader.path))
        reader.clip(row, rows)
        first = self.rows
        for number in range(row, row + rows):
            self._write(reader.batch(number))
        return first

    def part_store(self) -> _PartStore:
        """Where the frames of one clip are gathered until a part is full."""
        if self.header.kind is ShardKind.COMPACT:
            return _PackedParts()
        return _PlainParts(self.header.kind.dtype, self._memory)

    def write_part(self, part: Part) -> None:
        """Append one row."""
        self._write(part.batch(self._schema))

    def _write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self.rows += 1


class ClipWriter:
    """Takes one clip's frames in order, in chunks of any size, and its mel once."""

    def __init__(self, shard: ShardWriter, clip_id: str) -> None:
        self.clip_id = clip_id
        self.row = shard.rows
        """The clip's first row in the shard."""
        self.num_frames = 0
        """Frames taken so far."""
        self.frame_shape: tuple[int, ...] = ()
        """(C, H, W), as soon as a frame was taken."""
        self._shard = shard
        self._store = shard.part_store()
        self._mel: NDArray[np.float32] | None = None
        self._part_frames = 0

    @property
    def rows(self) -> int:
        """Rows of the clip so far; all of them once it is complete."""
        return self._shard.rows - self.row

    def frames(self, chunk: NDArray[Any]) -> None:
        """Append frames `(n, C, H, W)`: uint8 RGB, or for latents any floating numbers, stored as float16.

        Raises:
            DataError: `bad_clip` when shape or number type is not that of the clip.
        """
        self._check(chunk)
        while len(chunk):
            if self._store.count == self._part_frames:  # only now is it certain that another part follows
                self._flush(None)
            taken = chunk[: self._part_frames - self._store.count]
            self._store.add(taken, self._part_frames)
            self.num_frames += len(taken)
            chunk = chunk[len(taken) :]

    def mel(self, mel: NDArray[np.float32]) -> None:
        """Set the log-mel `(80, L)` float32 of the whole clip.

        Raises:
            DataError: `bad_clip` for another shape.
        """
        if mel.ndim != 2 or mel.shape[0] != N_MELS or not mel.shape[1]:
            raise self._bad(f"a mel of shape {mel.shape} instead of ({N_MELS}, columns)")
        self._mel = np.ascontiguousarray(mel, dtype="<f4")

    def finish(self) -> None:
        """Write what is left of the clip; `ShardWriter.add_clip` calls it."""
        if not self.num_frames or self._mel is None:
            raise self._bad("no frames" if self._mel is not None else "no mel")
        self._flush(self._mel)

    def _check(self, chunk: NDArray[Any]) -> None:
        expected = "f" if self._shard.header.kind is ShardKind.LATENTS else "u"
        pixels = chunk.ndim == 4 and (expected == "f" or (chunk.dtype == np.uint8 and chunk.shape[1] == 3))
        if not pixels or chunk.dtype.kind != expected or 0 in chunk.shape[1:]:
            wanted = "floating (n, C, H, W)" if expected == "f" else "uint8 (n, 3, H, W)"
            raise self._bad(f"frames {chunk.dtype} {chunk.shape} instead of {wanted}")
        if not self.frame_shape:
            self.frame_shape = chunk.shape[1:]
            frame_bytes = int(np.prod(self.frame_shape)) * self._shard.header.kind.dtype.itemsize
            self._part_frames = max(min(PART_FRAMES, PART_BYTES // frame_bytes), 1)
        if chunk.shape[1:] != self.frame_shape:
            raise self._bad(f"frames of shape {chunk.shape[1:]} after frames of shape {self.frame_shape}")

    def _flush(self, mel: NDArray[np.float32] | None) -> None:
        count = self._store.count
        content, ends = self._store.take()
        columns = 0 if mel is None else mel.shape[1]
        sound = np.zeros(0, dtype="<f4") if mel is None else mel
        size = dict(zip(("channels", "height", "width"), self.frame_shape, strict=True))
        part = Part(self.clip_id, self.rows, count, **size, mel_columns=columns, ends=ends, frames=content, mel=sound)
        self._shard.write_part(part)

    def _bad(self, found: str) -> DataError:
        return DataError(f"{self.clip_id}: a clip was given {found}", reason="bad_clip", path=self.clip_id)


class _PartStore(Protocol):
    """Gathers frames of one part."""

    count: int

    def add(self, frames: NDArray[Any], part_frames: int) -> None:
        """Append frames `(n, C, H, W)`, of which the part can hold `part_frames`."""

    def take(self) -> tuple[Any, NDArray[np.int32]]:
        """The part's content and the ends of its packets; the store is empty afterwards."""


class _PlainParts:
    """Frames as they are, in memory that every part uses again."""

    def __init__(self, dtype: np.dtype[Any], memory: dict[int, NDArray[np.uint8]]) -> None:
        self.count = 0
        self._dtype, self._memory, self._used = dtype, memory, 0

    def add(self, frames: NDArray[Any], part_frames: int) -> None:
        size = frames.size * self._dtype.itemsize
        target = self._buffer(size // len(frames) * part_frames)[self._used : self._used + size]
        np.copyto(target.view(self._dtype).reshape(frames.shape), frames, casting="same_kind")
        self._used += size
        self.count += len(frames)

    def take(self) -> tuple[Any, NDArray[np.int32]]:
        (buffer,) = self._memory.values()
        content = buffer[: self._used]
        self.count = self._used = 0
        return content, _NO_ENDS

    def _buffer(self, size: int) -> NDArray[np.uint8]:
        if size not in self._memory:  # pages of new memory cost nothing until they are used
            self._memory.clear()
            self._memory[size] = np.empty(size, dtype=np.uint8)
        return self._memory[size]


class _PackedParts:
    """Frames as H.264; every part has an encoder of its own, so that it can be read alone."""

    def __init__(self) -> None:
        self.count = 0
        self._encoder: PictureEncoder | None = None
        self._packets: list[bytes] = []

    def add(self, frames: NDArray[Any], part_frames: int) -> None:
        if self._encoder is None:
            self._encoder = PictureEncoder(*frames.shape[2:])
        self._packets += self._encoder.encode(frames)
        self.count += len(frames)

    def take(self) -> tuple[Any, NDArray[np.int32]]:
        packets = self._packets + (self._encoder.finish() if self._encoder else [])
        if len(packets) != self.count:
            raise RuntimeError(f"the encoder gave {len(packets)} packets for {self.count} frames")
        self.count, self._encoder, self._packets = 0, None, []
        return b"".join(packets), np.cumsum([len(packet) for packet in packets], dtype=np.int32)


def _say(header: Header) -> str:
    return f"{header.kind.value}, preparation {header.preparation}"
