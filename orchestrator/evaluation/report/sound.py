"""Sound out of a mel spectrogram: a prepared corpus stores no wave, and people want to hear what a network hears.

Contract: `log_mel` of the result is about the mel that came in; the pitch's fine structure and the phases, which a mel
does not hold, are made up, the same ones every time. Where the mel is silent, so is the sound.
"""

# M mel bins, L mel columns, F frequencies

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.functional import deemphasis, griffinlim, melscale_fbanks

from orchestrator.config.media import HOP, N_MELS, SAMPLE_RATE
from orchestrator.data.media.features import (
    HIGHEST_HZ,
    LIMIT,
    LOWEST_HZ,
    PREEMPHASIS,
    RANGE_DB,
    REFERENCE_DB,
    WINDOW,
)

_ITERATIONS, _STEPS = 32, 60
_SEED = 0
_LOUDEST = 0.95


def sound_of_mel(mel_ML: NDArray[np.float32]) -> NDArray[np.float32]:
    """A wave at 16 kHz that sounds like a mel spectrogram.

    Args:
        mel_ML: (80, L) as `log_mel` gives it.

    Returns:
        (200 * (L - 1),) in [-1, 1]; sample 200 * k is the middle of column k.
    """
    length = HOP * max(mel_ML.shape[1] - 1, 0)
    magnitudes_FL = _spectrum(torch.from_numpy(np.array(mel_ML, np.float32)))
    if not length or not magnitudes_FL.any():
        return np.zeros(length, np.float32)
    wave = deemphasis(_with_phases(magnitudes_FL, length), PREEMPHASIS)
    wave = wave * min(1.0, _LOUDEST / max(float(wave.abs().max()), 1e-9))
    return np.asarray(wave.numpy(), np.float32)


def _spectrum(mel_ML: Tensor) -> Tensor:
    """(F, L) magnitudes, nowhere negative, whose mel is nearest: a few multiplicative steps."""
    decibel = (mel_ML + LIMIT) * RANGE_DB / (2 * LIMIT) - RANGE_DB + REFERENCE_DB
    wanted_ML = torch.where(mel_ML > -LIMIT, 10 ** (decibel / 20), torch.zeros(()))
    bank_MF = _bank()
    found_FL, target_FL = bank_MF.T @ wanted_ML, bank_MF.T @ wanted_ML
    for _ in range(_STEPS):
        found_FL = found_FL * target_FL / (bank_MF.T @ (bank_MF @ found_FL)).clamp_min(1e-12)
    return found_FL


def _with_phases(magnitudes_FL: Tensor, length: int) -> Tensor:
    """A wave with these magnitudes, by the method of Griffin and Lim, from phases drawn anew, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return griffinlim(
            magnitudes_FL,
            torch.hann_window(WINDOW),
            n_fft=WINDOW,
            hop_length=HOP,
            win_length=WINDOW,
            power=1.0,
            n_iter=_ITERATIONS,
            momentum=0.99,
            length=length,
            rand_init=True,
        )


@cache
def _bank() -> Tensor:
    """(M, F): how much of each frequency a mel bin holds."""
    frequencies = WINDOW // 2 + 1
    return melscale_fbanks(frequencies, LOWEST_HZ, HIGHEST_HZ, N_MELS, SAMPLE_RATE, norm="slaney", mel_scale="slaney").T
