"""The two features on which the pretrained SyncNets were trained: the log-mel spectrogram and the resized frame.

Contract: `log_mel` of T * 640 samples (T video frames) has floor(3.2 * T) + 1 columns, so that every window of N
frames that fits into the clip has its full `mel_columns(N)` columns from `mel_start(first frame)` on.
"""

# T frames or samples, C channels, H W pixels, L mel columns

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.functional import preemphasis
from torchaudio.transforms import MelSpectrogram

from orchestrator.config.media import HOP, N_MELS, SAMPLE_RATE
from orchestrator.errors import DataError

WINDOW = 800
"""Samples of one spectrum."""
LOWEST_HZ, HIGHEST_HZ = 55.0, 7600.0
"""What the mel bins reach over."""
PREEMPHASIS = 0.97
REFERENCE_DB = 20.0
RANGE_DB = 100.0
LIMIT = 4.0
"""A mel lies in [-LIMIT, LIMIT]; silence is at the lower end."""
_FLOOR = 1e-5
_BLOCK = 1024
"""Columns computed at once: the spectra of a long clip in double would fill the memory."""


def log_mel(wave: Tensor) -> Tensor:
    """Log-mel spectrogram of a mono wave.

    Args:
        wave: float32 `(samples,)` in [-1, 1] at 16 kHz.

    Returns:
        float32 `(80, samples // 200 + 1)` in [-4, 4]; column k is centred on sample 200 * k.

    Raises:
        DataError: `bad_wave` when the wave is not one-dimensional or is empty.
    """
    if wave.ndim != 1 or wave.numel() == 0:
        raise DataError(f"a wave must be (samples,) and not empty, but is {tuple(wave.shape)}", reason="bad_wave")
    columns = wave.numel() // HOP + 1
    return torch.cat([_block(wave, first, min(first + _BLOCK, columns)) for first in range(0, columns, _BLOCK)], dim=1)


def resize_frames(frames_TCHW: Tensor, size: int) -> Tensor:
    """Resize uint8 frames `(T, C, H, W)` to `(T, C, size, size)` uint8; frames of that size come back unchanged.

    The interpolation runs in float and is rounded afterwards: on uint8 itself it would be off by up to 3 levels.
    """
    if frames_TCHW.shape[-2:] == (size, size):
        return frames_TCHW
    resized = F.interpolate(frames_TCHW.float(), (size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp_(0, 255).round_().to(torch.uint8)


def _block(wave: Tensor, first: int, end: int) -> Tensor:
    """The columns [first, end): computed from their own stretch of the wave, with zeros beyond its ends."""
    reach = WINDOW // 2
    start, stop = first * HOP - reach, (end - 1) * HOP + reach
    inside = wave[max(start - 1, 0) : min(stop, wave.numel())].double()
    emphasised = preemphasis(inside, PREEMPHASIS)[1 if start > 0 else 0 :]
    padded = F.pad(emphasised, (max(-start, 0), max(stop - wave.numel(), 0)))
    decibel = 20 * torch.log10(_mel_transform()(padded).clamp_min(_FLOOR)) - REFERENCE_DB
    return (2 * LIMIT * (decibel + RANGE_DB) / RANGE_DB - LIMIT).clamp(-LIMIT, LIMIT).float()


@cache
def _mel_transform() -> MelSpectrogram:
    """The transform, built once. Zero padding and Slaney's scale are what the files expect, not the defaults.

    It computes in double: near silence the logarithm turns float32's rounding into errors of 1e-4.
    """
    return MelSpectrogram(
        SAMPLE_RATE,
        n_fft=WINDOW,
        win_length=WINDOW,
        hop_length=HOP,
        f_min=LOWEST_HZ,
        f_max=HIGHEST_HZ,
        n_mels=N_MELS,
        power=1.0,
        center=False,  # `_block` pads
        norm="slaney",
        mel_scale="slaney",
        wkwargs={"dtype": torch.float64},
    ).double()
