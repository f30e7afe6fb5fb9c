"""One micro-batch: the memory that it lies in, and how the windows of samples get there.

Contract: frames, mel and labels are copied once, out of the memory map or the decoder, straight into memory that can be
used again and, for a GPU, is page-locked; shape and type are those of the corpus.
"""

# B samples, T frames, C channels, H W pixels, L mel columns

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from orchestrator.config.media import N_MELS, mel_columns
from orchestrator.data.corpus import CorpusSplit
from orchestrator.data.stream import Sample
from orchestrator.data.stream.augment import Changes


@dataclass(frozen=True)
class Batch:
    """One micro-batch, as stored: the model's side augments and normalises it, on the device."""

    frames: Tensor
    """`(B, T * C, H, W)`: uint8 RGB with C = 3, or float16 latents."""
    mel: Tensor
    """float32 `(B, 1, 80, L)`."""
    labels: Tensor
    """float32 `(B,)`: 1 in sync, 0 out of sync."""
    changes: Changes | None = None
    """What is still to be done to augment it; none when nothing is."""

    def __len__(self) -> int:
        return self.labels.shape[0]


@dataclass(frozen=True)
class BatchMemory:
    """Memory for one batch, to be filled again and again: making it new costs more than filling it."""

    frames: Tensor
    mel: Tensor
    labels: Tensor

    @classmethod
    def of(cls, clips: CorpusSplit, size: int, num_frames: int, *, pin: bool = False) -> Self:
        """Memory for `size` samples of a split; with `pin` page-locked, for asynchronous copies to a GPU."""
        channels, height, width = clips.corpus.frame_shape
        # torch knows numpy's types by name only
        dtype = getattr(torch, clips.corpus.dtype.name)
        return cls(
            torch.empty((size, num_frames * channels, height, width), dtype=dtype, pin_memory=pin),
            torch.empty((size, 1, N_MELS, mel_columns(num_frames)), pin_memory=pin),
            torch.empty(size, pin_memory=pin),
        )

    def fill(self, clips: CorpusSplit, samples: Sequence[Sample], changes: Changes | None = None) -> Batch:
        """Copy the windows of samples into this memory; the batch is valid until it is filled again.

        Args:
            clips: the split whose clip indices the samples use.
            samples: no more than there is memory for.
            changes: passed on with the batch.

        Raises:
            DataError: as `CorpusSplit.read_window` and `mel_window`.
        """
        count = len(samples)
        frames, mel, labels = self.frames[:count], self.mel[:count], self.labels[:count]
        frames_out, mel_out = frames.numpy(), mel.numpy()
        num_frames = frames_out.shape[1] // clips.corpus.frame_shape[0]
        for place, sample in enumerate(samples):
            clips.read_window(sample.clip, sample.frame_start, num_frames, frames_out[place])
            mel_out[place, 0] = clips.mel_window(sample.audio_clip, sample.audio_start, num_frames)
        labels.numpy()[:] = [sample.label for sample in samples]
        return Batch(frames, mel, labels, changes)


def collate(clips: CorpusSplit, samples: Sequence[Sample], num_frames: int, *, pin_memory: bool = False) -> Batch:
    """A batch in memory of its own; see `BatchMemory`."""
    return BatchMemory.of(clips, len(samples), num_frames, pin=pin_memory).fill(clips, samples)
