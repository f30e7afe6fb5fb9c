"""A clip as a network is asked about it: its picture, its mel, and how far apart they are said to be.

Contract: what comes out of `of_row` is what training reads, window for window; everything else that is judged (a
video that was never prepared, a control with its sound exchanged) takes the same form and goes the same way.
"""

# T frames, C channels, H W pixels, L mel columns

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import mel_columns, mel_start
from orchestrator.data.corpus import Corpus, CorpusSplit
from orchestrator.data.corpus.corpus import offset_columns
from orchestrator.data.manifest import ManifestRow


@dataclass(frozen=True, eq=False)
class Material:
    """Picture and sound of a clip."""

    frames_TCHW: NDArray[Any]
    """uint8 RGB, as stored (lower halves or whole faces), or float16 latents; perhaps a view of a mapped file."""
    mel_ML: NDArray[np.float32]
    """(80, L): the whole clip's mel."""
    offset_columns: int = 0
    """How many mel columns later the sound stands than the picture it belongs to, as far as that is known."""

    @property
    def num_frames(self) -> int:
        """T."""
        return self.frames_TCHW.shape[0]

    def video_starts(self, num_frames: int, stride: int = 1) -> NDArray[np.int64]:
        """First frames of the windows of the picture, every `stride`-th; empty for a clip that is too short."""
        return np.arange(0, self.num_frames - num_frames + 1, stride)

    def audio_starts(self, num_frames: int, beyond: int = 0) -> NDArray[np.int64]:
        """Frames at which a window of the sound can start: those whose mel is there, as far as `beyond` frames before
        the first and behind the last window of the picture."""
        starts = np.arange(-beyond, self.num_frames - num_frames + 1 + beyond)
        first = np.array([mel_start(int(start)) for start in starts], np.int64) + self.offset_columns
        return starts[(first >= 0) & (first + mel_columns(num_frames) <= self.mel_ML.shape[1])]

    def mel_window(self, start: int, num_frames: int) -> NDArray[np.float32]:
        """(80, mel_columns(num_frames)): the mel that belongs to the picture from frame `start` on."""
        first = mel_start(start) + self.offset_columns
        return self.mel_ML[:, first : first + mel_columns(num_frames)]

    def window(self, start: int, num_frames: int) -> NDArray[Any]:
        """(num_frames * C, H, W): frames stacked in channels, as a network reads them."""
        frames = self.frames_TCHW[start : start + num_frames]
        return frames.reshape(-1, *frames.shape[2:])


def of_row(corpus: Corpus, row: ManifestRow) -> Material:
    """A clip of a prepared corpus, be it usable or not, with the A/V offset of its manifest.

    Raises:
        DataError: as `Corpus.stored`.
    """
    stored = corpus.stored(row)
    return Material(stored.view(0, row.num_frames), stored.mel, offset_columns(row))


def of_corpus(clips: CorpusSplit, index: int) -> Material:
    """A clip of a split, by its index.

    Raises:
        DataError: as `Corpus.stored`.
    """
    return of_row(clips.corpus, clips.clips[index])
