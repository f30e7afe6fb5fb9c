"""A prepared corpus as training sees it: ordered clips and windows out of memory-mapped shards of any kind.

Contract: clip indices belong to one `CorpusSplit`, in the order of `clip_id`; a window of sound is where the clip's
A/V offset says that it belongs to the picture; a corpus pickles as its place, so that it can be sent to workers that
see the same folder. What is read is checked against the manifest: the clip and the settings that prepared it.
"""

# n T frames, C channels, H W pixels

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import FPS, mel_columns, mel_shift, mel_start
from orchestrator.data.claim import read_claim
from orchestrator.data.corpus.cache import ShardCache
from orchestrator.data.manifest import ManifestRow, read_manifest
from orchestrator.data.media import FEATURE_VERSION
from orchestrator.data.shards import ShardKind, ShardReader, StoredClip
from orchestrator.data.stream.clip_table import ClipTable
from orchestrator.errors import DataError
from orchestrator.storage import Folder, open_folder

SplitName = Literal["train", "val", "all"]
_OPEN_SHARDS = 16_384
"""Shards kept mapped at once: opening one again costs more than a sample, and the system allows 65,530 mappings."""
_KNOWN_CLIPS = 1024
"""Clips found and kept: a sample asks for its clip twice, for the picture and for the sound."""
_HINT = "run `orchestrator prepare` again into this folder"
_ANEW = "run `orchestrator prepare` into a new folder"


class Corpus:
    """The manifest and lazily mapped shards of one prepared folder."""

    def __init__(self, folder: Folder, rows: list[ManifestRow], cache: Path | None = None) -> None:
        self.folder = folder
        self._cache = cache
        self._shards = ShardCache(folder, cache)
        self.rows = rows
        # A cache per corpus: lru_cache is safe to share between the loader's threads.
        self._shard = lru_cache(maxsize=_OPEN_SHARDS)(self._open_shard)
        self._clip = lru_cache(maxsize=_KNOWN_CLIPS)(self._find_clip)
        self._split = lru_cache(maxsize=None)(partial(CorpusSplit, self))

    @classmethod
    def open(cls, where: str | Path, cache: str | Path | None = None) -> Corpus:
        """Open a folder that `prepare` wrote.

        Args:
            where: its path or URI.
            cache: folder on this node's own disk where each shard is kept, as raw pixels, from its first use on; none
                reads shards where they are.

        Raises:
            DataError: as `read_manifest`; `no_clips` when not one clip is usable; `other_features` when a version that
                computed other features prepared it, `other_preparation` when its files are of two preparations.
            StorageError: the storage fails.
        """
        folder = open_folder(where)
        rows = read_manifest(folder)
        _check_preparation(folder, rows)
        if not any(row.ok for row in rows):
            message = f"{folder.name} has no usable clip among its {len(rows)}"
            raise DataError(message, reason="no_clips", path=folder.name, hint="see the reasons in its manifest")
        return cls(folder, rows, None if cache is None else Path(cache).expanduser().absolute())

    @property
    def name(self) -> str:
        """Where the corpus is, for messages."""
        return self.folder.name

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of everything training can see: clips, splits, A/V offsets and the preparation."""
        digest = hashlib.sha256()
        for row in self.clips("all"):
            digest.update(f"{row.clip_id}\t{row.split}\t{row.num_frames}\t{row.preparation}".encode())
            digest.update(f"\t{row.av_offset_s!r}\t{row.speech.hex()}\n".encode())
        return digest.hexdigest()

    @property
    def preparation(self) -> str:
        """Fingerprint of the preparation settings, one for the whole folder."""
        return self._first.preparation

    @cached_property
    def kind(self) -> ShardKind:
        """How the frames are stored where they are read."""
        return self._shard(self._first.shard).kind

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 pixels, or float16 latents."""
        return self.kind.dtype

    @cached_property
    def frame_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every stored frame."""
        return self._first.channels, self._first.height, self._first.width

    def clips(self, split: SplitName = "all") -> list[ManifestRow]:
        """The usable clips of a split, in the order of `clip_id`."""
        return [row for row in self.rows if row.ok and split in (row.split, "all")]

    def split(self, split: SplitName) -> CorpusSplit:
        """The clips of a split, by index; made once, because there can be a million of them."""
        return self._split(split)

    def stored(self, clip: ManifestRow) -> StoredClip:
        """A clip in its shard.

        Raises:
            DataError: as `ShardReader`; `stale_manifest` when the shard holds another clip in these rows,
                `other_preparation` when other settings prepared it.
        """
        stored = self._clip(clip.shard, clip.row, clip.rows)
        if (stored.clip_id, stored.num_frames) != (clip.clip_id, clip.num_frames):
            found = f"holds {stored.clip_id} with {stored.num_frames} frames"
            message = f"{clip.shard} row {clip.row} {found}, but the manifest says {clip.clip_id}, {clip.num_frames}"
            raise DataError(message, reason="stale_manifest", path=self.name, hint=_HINT)
        if stored.preparation != clip.preparation:
            message = f"{clip.shard} was prepared as {stored.preparation}, but the manifest says {clip.preparation}"
            raise DataError(message, reason="other_preparation", path=self.name, hint=_HINT)
        return stored

    def __reduce__(self) -> tuple[Any, ...]:
        return Corpus.open, (self.folder.uri, self._cache)

    @cached_property
    def _first(self) -> ManifestRow:
        return next(row for row in self.rows if row.ok)

    def _find_clip(self, shard: str, row: int, rows: int) -> StoredClip:
        return self._shard(shard).clip(row, rows)

    def _open_shard(self, name: str) -> ShardReader:
        return ShardReader(self._shards.path(name))


def _check_preparation(folder: Folder, rows: list[ManifestRow]) -> None:
    """What trains and what is judged must have been prepared as this version prepares, and all of it alike."""
    claim = read_claim(folder)
    if claim is None:  # somebody else's shards and manifest: their fingerprints still have to agree
        return
    fingerprint, settings = claim
    if settings.get("features") != FEATURE_VERSION:
        found = f"has features of version {settings.get('features')}, but this version computes {FEATURE_VERSION}"
        raise DataError(f"{folder.name} {found}", reason="other_features", path=folder.name, hint=_ANEW)
    strangers = [row for row in rows if row.ok and row.preparation != fingerprint]
    if strangers:
        found = f"was prepared as {fingerprint}, but {strangers[0].clip_id} as {strangers[0].preparation}"
        raise DataError(f"{folder.name} {found}", reason="other_preparation", path=folder.name, hint=_ANEW)


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

    @cached_property
    def table(self) -> ClipTable:
        """Per clip the frames that have picture and sound, its speaker, and where speech is heard."""
        ranges = [usable_frames(clip) for clip in self.clips]
        speech = [picture_speech(clip) for clip in self.clips] if any(clip.speech for clip in self.clips) else None
        return ClipTable.of(
            [length for _, length in ranges],
            firsts=[first for first, _ in ranges],
            speakers=[clip.speaker for clip in self.clips],
            speech=speech,
        )

    def window(self, clip_index: int, frame_start: int, num_frames: int) -> NDArray[Any]:
        """Frames stacked in channels, frame-major `(num_frames * C, H, W)`: a view where the kind allows it.

        Raises:
            DataError: `bad_window` when the window leaves the clip.
        """
        frames = self._stored(clip_index, frame_start, num_frames).view(frame_start, num_frames)
        return frames.reshape(-1, *frames.shape[2:])

    def read_window(self, clip_index: int, frame_start: int, num_frames: int, out: NDArray[Any]) -> None:
        """Read the frames of a window into `out` `(num_frames * C, H, W)`, contiguous, of the corpus's `dtype`.

        Raises:
            DataError: `bad_window` when the window leaves the clip or does not fit into `out`.
        """
        stored = self._stored(clip_index, frame_start, num_frames)
        channels, height, width = stored.frame_shape
        if out.shape != (num_frames * channels, height, width) or not out.flags.c_contiguous:
            raise self._bad_window(clip_index, f"needs contiguous {(num_frames * channels, height, width)}")
        stored.read(frame_start, num_frames, out.reshape(num_frames, channels, height, width))

    def mel_window(self, clip_index: int, frame_start: int, num_frames: int) -> NDArray[np.float32]:
        """The mel that belongs to these frames: a view `(80, mel_columns(num_frames))` float32, never padded.

        The clip's A/V offset moves it by whole columns of 1/80 s.

        Raises:
            DataError: `bad_window` when the window leaves the clip or its mel.
        """
        mel = self._stored(clip_index, frame_start, num_frames).mel
        first = mel_start(frame_start) + offset_columns(self.clips[clip_index])
        end = first + mel_columns(num_frames)
        if first < 0 or end > mel.shape[1]:
            raise self._bad_window(clip_index, f"needs mel columns {first} to {end} of {mel.shape[1]}")
        return mel[:, first:end]

    def _stored(self, clip_index: int, frame_start: int, num_frames: int) -> StoredClip:
        """The clip, after a check of the window."""
        clip = self.clips[clip_index]
        if not 0 <= frame_start <= clip.num_frames - num_frames:
            wanted = f"is frames {frame_start} to {frame_start + num_frames} of {clip.num_frames}"
            raise self._bad_window(clip_index, wanted)
        return self.corpus.stored(clip)

    def _bad_window(self, clip_index: int, found: str) -> DataError:
        clip = self.clips[clip_index]
        return DataError(f"a window of {clip.clip_id} {found}", reason="bad_window", path=clip.source)


def offset_columns(clip: ManifestRow) -> int:
    """The clip's A/V offset in mel columns: how much later the sound stands than the picture that it belongs to."""
    return mel_shift(clip.av_offset_s)


def usable_frames(clip: ManifestRow) -> tuple[int, int]:
    """(first, number) of the frames that have picture and sound: every window in them has all of its mel.

    The mel of T frames has floor(3.2 T) + 1 columns (`log_mel`); a window from s to e needs those from floor(3.2 s) to
    at most floor(3.2 e), both moved by the clip's offset.
    """
    offset = offset_columns(clip)
    first = min(max(-(offset * 5 // 16), 0), clip.num_frames)
    last = mel_start(clip.num_frames) - max(offset, 0)
    end = clip.num_frames if offset <= 0 else (last * 5 + 4) // 16
    return first, max(end - first, 0)


def picture_speech(clip: ManifestRow) -> bytes:
    """The clip's packed speech bits by picture frame: the manifest has them by the sound's own time."""
    shift = round(clip.av_offset_s * FPS)
    if not shift or not clip.speech:
        return clip.speech
    heard = np.unpackbits(np.frombuffer(clip.speech, np.uint8), count=clip.num_frames)
    moved = np.zeros_like(heard)
    first, end = max(-shift, 0), clip.num_frames - max(shift, 0)
    if end > first:
        moved[first:end] = heard[first + shift : end + shift]
    return np.packbits(moved).tobytes()
