"""The mel windows that training would cut, and the check of those that somebody brings.

Contract: `mel_windows` computes the mel of the whole sound and cuts columns out of it, as preparation and training do:
a column reaches 400 samples to each side, so a window of samples alone does not tell its own mel.
"""

# B windows, S samples, L mel columns

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orchestrator.config.media import N_MELS, mel_columns, mel_shift, mel_start
from orchestrator.config.model import AnyModelConfig, input_shape
from orchestrator.data.media.features import log_mel
from orchestrator.errors import DataError


def mel_windows(wave: Tensor, starts: Sequence[int] | Tensor, num_frames: int, av_offset_s: float = 0.0) -> Tensor:
    """float32 (B, 1, 80, L) on the CPU, with a gradient where `wave` has one.

    Args:
        wave: the whole sound of a clip, (S,) float in [-1, 1] at 16 kHz, of which sample 0 is at the time of frame 0;
            or (B, S), a clip for each start.
        starts: B first frames of windows, counted in the clip at 25 frames per second.
        num_frames: video frames per window.
        av_offset_s: how much later the sound comes than the picture; applied to the nearest column, as a corpus does.

    Raises:
        DataError: `bad_wave`, or `bad_window` for one that leaves the sound.
    """
    firsts = [int(start) for start in starts]
    if not wave.is_floating_point() or wave.ndim not in (1, 2):
        found = f"is {wave.dtype} of shape {tuple(wave.shape)}"
        raise DataError(f"a wave must be float (samples,) or (B, samples), but {found}", reason="bad_wave")
    if not firsts or (wave.ndim == 2 and len(wave) != len(firsts)):
        given = f"{len(wave)} waves" if wave.ndim == 2 else "a wave"
        message = f"there must be a start for each window, but there are {len(firsts)} for {given}"
        raise DataError(message, reason="bad_window", hint="give one start per wave, or several for one wave")
    waves = wave.to("cpu", torch.float32)
    mels = [log_mel(waves)] * len(firsts) if wave.ndim == 1 else [log_mel(each) for each in waves]
    offset = mel_shift(av_offset_s)
    return torch.stack([_cut(mel, first, num_frames, offset) for mel, first in zip(mels, firsts, strict=True)])


def network_mel(audio: Tensor, config: AnyModelConfig) -> Tensor:
    """(B, 1, 80, L), checked, in the type it came in.

    Raises:
        DataError: `bad_mel`.
    """
    columns = input_shape(config).audio[-1]
    windows = audio.unsqueeze(1) if audio.ndim == 3 else audio
    if not audio.is_floating_point() or windows.ndim != 4 or windows.shape[1:] != (1, N_MELS, columns):
        hint = "make mel windows of a clip's sound with `audio_windows(wave, starts)`" if audio.ndim < 3 else ""
        if windows.ndim == 4 and windows.shape[1:] == (1, columns, N_MELS):
            hint = "its last two dimensions are swapped: give audio.mT"
        message = f"the audio must be float mel windows (B, 1, {N_MELS}, {columns}) or (B, {N_MELS}, {columns})"
        raise DataError(f"{message}, but is {audio.dtype} {tuple(audio.shape)}", reason="bad_mel", hint=hint)
    return windows


def _cut(mel: Tensor, start: int, num_frames: int, offset: int) -> Tensor:
    """(1, 80, L) of (80, columns)."""
    first = mel_start(start) + offset
    end = first + mel_columns(num_frames)
    if start < 0 or first < 0 or end > mel.shape[1]:
        message = f"the window of {num_frames} frames from frame {start} needs mel columns {first} to {end}"
        hint = "give the whole sound of the clip, and starts whose windows lie in it"
        raise DataError(f"{message}, but the sound has {mel.shape[1]}", reason="bad_window", hint=hint)
    return mel[None, :, first:end]
