"""Reading shards through a memory map: views where the kind allows it, copies or decoded frames where it does not.

Promises: opening a shard and finding a clip cost the same however many clips there are; no file descriptor stays open;
views stay valid after the reader is gone; a shard that is not whole, or a clip with a part missing, is a `DataError`.
"""

# T n frames, C channels, H W pixels, L mel columns

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.config.media import N_MELS
from orchestrator.data.shards.h264 import decode_window
from orchestrator.data.shards.schema import HINT, Header, Part, ShardKind
from orchestrator.errors import DataError


class ShardReader:
    """A shard behind a memory map. Safe to share between threads.

    Args:
        path: the file.
        mapped: whether to map it. Pages of a map count as memory of the process for as long as there is room, so who
            reads a shard once from end to end in bounded memory goes without; the file then stays open.

    Raises:
        DataError: `missing`, `bad_shard` for a file that is not a whole shard, `shard_version` for another version.
    """

    def __init__(self, path: str | Path, *, mapped: bool = True) -> None:
        self.path = Path(path)
        try:
            self._file = pa.ipc.open_file(_mapped(path) if mapped else pa.OSFile(str(path)))
            self.header = Header.of(self._file.schema, str(path))
        except FileNotFoundError as error:
            hint = "run `orchestrator prepare` again into this folder, or put the file back"
            raise DataError(f"there is no shard {path}", reason="missing", path=str(path), hint=hint) from error
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            raise self._bad(f"is not a whole shard: {error}") from error
        self._lock = threading.Lock()

    @property
    def kind(self) -> ShardKind:
        """How frames are stored."""
        return self.header.kind

    @property
    def preparation(self) -> str:
        """Fingerprint of the settings that made the clips."""
        return self.header.preparation

    def __len__(self) -> int:
        """Rows, of which a clip has one or more."""
        return int(self._file.num_record_batches)

    def clips(self) -> Iterator[tuple[int, int]]:
        """(first row, number of rows) of every clip, in order. Looks at every row."""
        first = 0
        for row in range(1, len(self) + 1):
            if row == len(self) or self.batch(row).column("part")[0].as_py() == 0:
                yield first, row - first
                first = row

    def clip(self, row: int, rows: int = 1) -> StoredClip:
        """The clip in `rows` rows from `row` on.

        Raises:
            DataError: `bad_row` when the shard has no such rows, `bad_shard` when they are not one whole clip.
        """
        if row < 0 or rows < 1 or row + rows > len(self):
            wanted = f"has {len(self)} rows, but row {row}" + (f" to {row + rows - 1}" if rows > 1 else "")
            raise self._bad(f"{wanted} was asked for", "bad_row")
        first = self.part(row, 0)
        last = first if rows == 1 else self.part(row + rows - 1, rows - 1)
        return StoredClip(self, row, rows, first, last)

    def part(self, row: int, number: int) -> Part:
        """The part `number` of a clip, in this row.

        Raises:
            DataError: `bad_shard` when the row holds something else or less than it says.
        """
        try:
            part = Part.of(self.batch(row))
        except (pa.ArrowException, ValueError, OSError) as error:
            raise self._bad(f"cannot be read in row {row}: {error}") from error
        if part.part != number:
            raise self._bad(f"has part {part.part} of {part.clip_id} in row {row}, but part {number} was expected")
        size = part.num_frames * part.channels * part.height * part.width * self.kind.dtype.itemsize
        if self.kind is ShardKind.COMPACT:
            whole = part.num_frames > 0 and len(part.ends) == part.num_frames and part.frames.size == part.ends[-1]
        else:
            whole = part.frames.size == size
        if not whole or size <= 0 or part.mel.size != N_MELS * part.mel_columns * 4:
            raise self._bad(f"has less in row {row} than it says")
        return part

    def batch(self, row: int) -> pa.RecordBatch:
        """A row as it stands in the file."""
        with self._lock:
            return self._file.get_batch(row)

    def _bad(self, found: str, reason: str = "bad_shard") -> DataError:
        return DataError(f"{self.path} {found}", reason=reason, path=str(self.path), hint=HINT)


def _mapped(path: str | Path) -> pa.Buffer:
    """The whole file; the buffer keeps the mapping alive without it: thousands of open shards need no descriptors."""
    with pa.memory_map(str(path)) as source:
        return source.read_buffer()


class StoredClip:
    """One clip of a shard; what it hands out are read-only views of the memory map, or copies."""

    def __init__(self, reader: ShardReader, row: int, rows: int, first: Part, last: Part) -> None:
        self._reader, self._row = reader, row
        self._parts = {0: first, rows - 1: last}
        self._part_frames = first.num_frames
        self.preparation = reader.preparation
        """Fingerprint of the settings that made it."""
        self.clip_id = first.clip_id
        """The clip's unique name."""
        self.num_frames = (rows - 1) * first.num_frames + last.num_frames
        """T."""
        self.frame_shape = (first.channels, first.height, first.width)
        """(C, H, W)."""
        self.dtype = reader.kind.dtype
        """uint8, or float16 for latents."""
        if not last.mel_columns or not self._fits(last) or last.num_frames > first.num_frames:
            raise self._broken(rows - 1)
        self.mel: NDArray[np.float32] = np.frombuffer(last.mel, dtype="<f4").reshape(N_MELS, last.mel_columns)
        """`(80, L)`."""

    def read(self, start: int, count: int, out: NDArray[Any]) -> None:
        """Copy or decode frames [start, start + count) into `out` `(count, C, H, W)`.

        Raises:
            DataError: `bad_window` when they leave the clip or `out` has another shape, `bad_shard` for damage.
        """
        self._check(start, count)
        if out.shape != (count, *self.frame_shape) or out.dtype != self.dtype:
            wanted = f"{self.dtype} {(count, *self.frame_shape)}"
            raise self._outside(f"needs memory of {wanted}, but was given {out.dtype} {out.shape}")
        done = 0
        for part, first, number in self._pieces(start, count):
            self._read_part(part, first, out[done : done + number])
            done += number

    def view(self, start: int, count: int) -> NDArray[Any]:
        """Frames [start, start + count) `(count, C, H, W)`: a view when they lie uncompressed in one part, else a copy.

        Raises:
            DataError: as `read`.
        """
        self._check(start, count)
        pieces = list(self._pieces(start, count))
        if len(pieces) == 1 and self._reader.kind is not ShardKind.COMPACT:
            part, first, number = pieces[0]
            return self._plain(part)[first : first + number]
        out = np.empty((count, *self.frame_shape), self.dtype)
        self.read(start, count, out)
        return out

    def _pieces(self, start: int, count: int) -> Iterator[tuple[Part, int, int]]:
        """The parts that a window touches: (part, first frame in it, number of frames)."""
        while count:
            index, first = divmod(start, self._part_frames)
            part = self._part(index)
            number = min(count, part.num_frames - first)
            yield part, first, number
            start, count = start + number, count - number

    def _part(self, index: int) -> Part:
        part = self._parts.get(index)
        if part is None:
            part = self._reader.part(self._row + index, index)
            if not self._fits(part) or part.num_frames != self._part_frames or part.mel_columns:
                raise self._broken(index)
            self._parts[index] = part
        return part

    def _read_part(self, part: Part, first: int, out: NDArray[Any]) -> None:
        if self._reader.kind is not ShardKind.COMPACT:
            np.copyto(out, self._plain(part)[first : first + len(out)])
            return
        try:
            decode_window(part.frames, part.ends, self._reader.header.codec["gop"], first, out)
        except ValueError as error:
            message = f"{self._reader.path}: {self.clip_id} is damaged: {error}"
            raise DataError(message, reason="bad_shard", path=str(self._reader.path), hint=HINT) from error

    def _plain(self, part: Part) -> NDArray[Any]:
        return np.frombuffer(part.frames, dtype=self.dtype).reshape(part.num_frames, *self.frame_shape)

    def _fits(self, part: Part) -> bool:
        return part.clip_id == self.clip_id and (part.channels, part.height, part.width) == self.frame_shape

    def _check(self, start: int, count: int) -> None:
        if start < 0 or count < 1 or start + count > self.num_frames:
            raise self._outside(f"is frames {start} to {start + count} of {self.num_frames}")

    def _outside(self, found: str) -> DataError:
        return DataError(f"a window of {self.clip_id} {found}", reason="bad_window", path=str(self._reader.path))

    def _broken(self, index: int) -> DataError:
        path, row = self._reader.path, self._row + index
        message = f"{path} row {row} does not continue {self.clip_id}, which starts in row {self._row}, to its end"
        return DataError(message, reason="bad_shard", path=str(path), hint=HINT)
