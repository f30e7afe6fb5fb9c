"""Audio features that joonson's trainer computes inside its net, from 16 kHz waveforms in the range of int16.

`LogMel` has the two buffers of torchaudio's MelSpectrogram, under its names; `Mfcc` has none. Both start every 10 ms a
frame of 25 ms. Source of the facts: joonson/syncnet_trainer, models/SyncNetModelFBank.py and pytorch_mfcc.py.

Shapes: B waveforms, S samples, F frequencies, M mel bins, L frames.
"""

from __future__ import annotations

import math

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.config.media import SAMPLE_RATE

N_FFT, WINDOW, HOP = 512, 400, 160
_FREQUENCIES = N_FFT // 2 + 1
_BINS = 40
_LOG_FLOOR = 1e-6


class LogMel(nn.Module):
    """(B, S) -> (B, 40, L): log of 40 mel energies, each bin at mean 0 and variance 1 over time, without the two frames
    at the edges. Its two tensors are buffers, and are saved."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = _Buffer("window", (WINDOW,))
        self.mel_scale = _Buffer("fb", (_FREQUENCIES, _BINS))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the buffers with what torchaudio computes."""
        if self.mel_scale.tensor.is_meta:
            return
        filters = torchaudio.functional.melscale_fbanks(_FREQUENCIES, 0.0, 8000.0, _BINS, SAMPLE_RATE)
        self.spectrogram.tensor.copy_(torch.hann_window(WINDOW))
        self.mel_scale.tensor.copy_(filters)

    def forward(self, waveforms: Tensor) -> Tensor:
        power_BFL = torchaudio.functional.spectrogram(
            waveforms, 0, self.spectrogram.tensor, N_FFT, HOP, WINDOW, power=2.0, normalized=False
        )
        mel_BML = (power_BFL.transpose(1, 2) @ self.mel_scale.tensor).transpose(1, 2)
        return F.instance_norm((mel_BML + _LOG_FLOOR).log())[:, :, 1:-1]


class _Buffer(nn.Module):
    """One named buffer: the place that torchaudio's own submodules take in the names."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer(name, torch.zeros(shape))
        self.name = name

    @property
    def tensor(self) -> Tensor:
        """The buffer."""
        return self.get_buffer(self.name)


class Mfcc(nn.Module):
    """(B, S) -> (B, 13, L): the 13 cepstra of 26 mel bins, liftered by 22, the first replaced by the log energy: the
    classic recipe of python_speech_features with its defaults. No tensors."""

    def forward(self, waveforms: Tensor) -> Tensor:
        emphasised = torch.cat([waveforms[:, :1], waveforms[:, 1:] - 0.97 * waveforms[:, :-1]], dim=1)
        power_BLF = torch.fft.rfft(_frames(emphasised), n=N_FFT).abs().square() / N_FFT
        # both tables are made here: as buffers they would be tensors of the net, which upstream's files do not have
        logs_BLM = (power_BLF @ _triangles().to(power_BLF) + _EPSILON).log()
        cepstra_BLK = logs_BLM @ _liftered_dct().to(power_BLF)
        energy_BL1 = (power_BLF.sum(dim=2, keepdim=True) + _EPSILON).log()
        return torch.cat([energy_BL1, cepstra_BLK[:, :, 1:]], dim=2).transpose(1, 2)


_EPSILON = torch.finfo(torch.float32).eps
_MFCC_BINS, _CEPSTRA, _LIFTER = 26, 13, 22


def _frames(signal: Tensor) -> Tensor:
    """(B, S) -> (B, L, 400): the last frame is filled up with zeros."""
    missing = max(0, math.ceil((signal.shape[1] - WINDOW) / HOP)) * HOP + WINDOW - signal.shape[1]
    return F.pad(signal, (0, missing)).unfold(1, WINDOW, HOP)


def _triangles() -> Tensor:
    """(F, 26) triangles on the mel scale, their corners rounded down to whole FFT bins."""
    top = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    mels = torch.linspace(0, top, _MFCC_BINS + 2, dtype=torch.float64)
    corners = ((N_FFT + 1) * 700 * (10 ** (mels / 2595) - 1) / SAMPLE_RATE).floor()
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    at = torch.arange(_FREQUENCIES, dtype=torch.float64).unsqueeze(1)
    rising = torch.where((at >= left) & (at < centre), (at - left) / (centre - left), 0.0)
    return torch.where((at >= centre) & (at < right), (right - at) / (right - centre), rising)


def _liftered_dct() -> Tensor:
    """(26, 13): the orthonormal DCT-II, its columns scaled by the lifter."""
    k = torch.arange(_CEPSTRA, dtype=torch.float64)
    n = torch.arange(_MFCC_BINS, dtype=torch.float64).unsqueeze(1)
    cosines = torch.cos(math.pi * k * (2 * n + 1) / (2 * _MFCC_BINS)) * math.sqrt(2 / _MFCC_BINS)
    cosines[:, 0] /= math.sqrt(2)
    return cosines * (1 + _LIFTER / 2 * torch.sin(math.pi * k / _LIFTER))
