"""A prepared corpus as training sees it: ordered clips and zero-copy windows into memory-mapped shards.

Contract: clip indices belong to one `CorpusSplit`, in the order of `clip_id`; windows are read-only views; a corpus
pickles as its path, so that it can be sent to workers that see the same folder.
"""

# T frames, H W pixels

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import mel_columns, mel_start
from orchestrator.data.manifest import ManifestRow, read_manifest
from orchestrator.data.shards import ClipArrays, ShardReader
from orchestrator.errors import DataError

SplitName = Literal["train", "val", "all"]
_OPEN_SHARDS = 1024
"""Shards kept mapped at once; the system limits mappings per process."""
_HINT = "run `orchestrator prepare` again into this folder"


class Corpus:
    """The manifest and lazily mapped shards of one prepared folder."""

    def __init__(self, folder: Path, rows: list[ManifestRow]) -> None:
        self.folder = folder
        self.rows = rows
        # A cache per corpus: lru_cache is safe to share between the loader's threads.
        self._shard = lru_cache(maxsize=_OPEN_SHARDS)(self._open_shard)

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Open a folder that `prepare` wrote.

        Raises:
            DataError: as `read_manifest`; `no_clips` when not one clip is usable.
        """
        path = Path(folder).resolve()
        rows = read_manifest(path)
        if not any(row.ok for row in rows):
            message = f"{path} has no usable clip among its {len(rows)}"
            raise DataError(message, reason="no_clips", path=str(path), hint="see the reasons in its manifest")
        return cls(path, rows)

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of everything training can see: clips, splits and the preparation."""
        digest = hashlib.sha256()
        for row in self.clips("all"):
            digest.update(f"{row.clip_id}\t{row.split}\t{row.num_frames}\t{row.preparation}\n".encode())
        return digest.hexdigest()

    @property
    def preparation(self) -> str:
        """Fingerprint of the preparation settings, one for the whole folder."""
        return self.clips("all")[0].preparation

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(3, H, W) of every stored frame."""
        first = self.clips("all")[0]
        return 3, first.height, first.width

    def clips(self, split: SplitName = "all") -> list[ManifestRow]:
        """The usable clips of a split, in the order of `clip_id`."""
        return [row for row in self.rows if row.ok and split in (row.split, "all")]

    def split(self, split: SplitName) -> CorpusSplit:
        """The clips of a split, by index."""
        return CorpusSplit(self, split)

    def arrays(self, clip: ManifestRow) -> ClipArrays:
        """A clip's whole frames and mel, as views.

        Raises:
            DataError: as `ShardReader`; `stale_manifest` when the shard holds another clip in that row.
        """
        arrays = self._shard(clip.shard).clip(clip.row)
        if arrays.clip_id != clip.clip_id:
            message = f"{clip.shard} row {clip.row} holds {arrays.clip_id}, but the manifest says {clip.clip_id}"
            raise DataError(message, reason="stale_manifest", path=str(self.folder), hint=_HINT)
        return arrays

    def __reduce__(self) -> tuple[Any, ...]:
        return Corpus.open, (str(self.folder),)

    def _open_shard(self, name: str) -> ShardReader:
        return ShardReader(self.folder / name)


class CorpusSplit:
    """The clips of one split of a corpus; every clip index of a stream or loader counts in here."""

    def __init__(self, corpus: Corpus, name: SplitName) -> None:
        self.corpus = corpus
        self.name = name
        self.clips = corpus.clips(name)

    @property
    def lengths(self) -> list[int]:
        """Frames of every clip, for a `SampleStream`."""
        return [clip.num_frames for clip in self.clips]

    @property
    def clip_ids(self) -> list[str]:
        """Clip ids by index."""
        return [clip.clip_id for clip in self.clips]

    def window(self, clip_index: int, frame_start: int, num_frames: int) -> NDArray[np.uint8]:
        """Frames stacked in channels, frame-major: a view `(num_frames * 3, H, W)` uint8.

        Raises:
            DataError: `bad_window` when the window leaves the clip.
        """
        frames = self._arrays(clip_index, frame_start, num_frames).frames[frame_start : frame_start + num_frames]
        return frames.reshape(num_frames * 3, *frames.shape[2:])

    def mel_window(self, clip_index: int, frame_start: int, num_frames: int) -> NDArray[np.float32]:
        """The mel of the same window: a view `(80, mel_columns(num_frames))` float32, never padded.

        Raises:
            DataError: `bad_window` when the window leaves the clip or its mel.
        """
        mel = self._arrays(clip_index, frame_start, num_frames).mel
        first, count = mel_start(frame_start), mel_columns(num_frames)
        if first + count > mel.shape[1]:
            raise self._bad_window(clip_index, f"needs mel columns {first} to {first + count} of {mel.shape[1]}")
        return mel[:, first : first + count]

    def _arrays(self, clip_index: int, frame_start: int, num_frames: int) -> ClipArrays:
        """The clip's arrays, after a check of the window: numpy would cut a window off silently."""
        clip = self.clips[clip_index]
        if not 0 <= frame_start <= clip.num_frames - num_frames:
            wanted = f"is frames {frame_start} to {frame_start + num_frames} of {clip.num_frames}"
            raise self._bad_window(clip_index, wanted)
        return self.corpus.arrays(clip)

    def _bad_window(self, clip_index: int, found: str) -> DataError:
        clip = self.clips[clip_index]
        return DataError(f"a window of {clip.clip_id} {found}", reason="bad_window", path=clip.source)
