"""The sound as joonson's syncnet_v2 hears it: 13 MFCC, 100 columns a second, instead of mel.

Why: the figures LSE-D and LSE-C of the literature come from this network. Contract: columns are computed over the whole
wave, as upstream does it, four for each frame; a window of five frames has twenty.
"""

# L columns

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.evaluation.material import Material
from orchestrator.models.audio_features import Mfcc

MFCC_PER_FRAME = 4
"""Columns of a video frame."""
_INT16 = 32768


@dataclass(frozen=True, eq=False)
class MfccMaterial(Material):
    """Picture and MFCC of a clip; its `mel_ML` holds the (13, L) MFCC, its `offset_columns` count in them."""

    def audio_starts(self, num_frames: int, beyond: int = 0) -> NDArray[np.int64]:
        """As of mel."""
        starts = np.arange(-beyond, self.num_frames - num_frames + 1 + beyond)
        first = starts * MFCC_PER_FRAME + self.offset_columns
        return starts[(first >= 0) & (first + num_frames * MFCC_PER_FRAME <= self.mel_ML.shape[1])]

    def mel_window(self, start: int, num_frames: int) -> NDArray[np.float32]:
        """(13, num_frames * 4): the MFCC that belong to the picture from frame `start` on."""
        first = start * MFCC_PER_FRAME + self.offset_columns
        return self.mel_ML[:, first : first + num_frames * MFCC_PER_FRAME]


def mfcc_of(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """(13, L) MFCC of a mono wave in [-1, 1] at 16 kHz, computed in double as upstream does, from 16-bit samples."""
    samples = np.clip(np.round(wave.astype(np.float64) * _INT16), -_INT16, _INT16 - 1)
    with torch.no_grad():
        return np.asarray(Mfcc()(torch.from_numpy(samples)[None])[0].float().numpy(), np.float32)
