"""The features against independent definitions: mel in plain numpy, resizing against the float reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from orchestrator.config.media import mel_columns, mel_start
from orchestrator.data.media.features import log_mel, resize_frames
from orchestrator.errors import DataError


def reference_mel(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """The definition, step by step, in float64."""
    emphasised = np.append(wave[0], wave[1:] - 0.97 * wave[:-1])
    padded = np.pad(emphasised, 400)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 800)
    columns = [np.abs(np.fft.rfft(padded[k : k + 800] * window)) for k in range(0, len(wave) + 1, 200)]
    mel = slaney_filters() @ np.array(columns).T
    level = 20 * np.log10(np.maximum(1e-5, mel)) - 20
    return np.clip(8 * (level + 100) / 100 - 4, -4, 4)


def slaney_filters() -> NDArray[np.float64]:
    """80 triangles, linear below 1 kHz and logarithmic above, each of unit area in Hz."""

    def to_mel(hz: float) -> float:
        return hz / (200 / 3) if hz < 1000 else 15 + np.log(hz / 1000) / (np.log(6.4) / 27)

    def to_hz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * np.exp((mel - 15) * np.log(6.4) / 27)

    edges = np.array([to_hz(mel) for mel in np.linspace(to_mel(55), to_mel(7600), 82)])
    bins = np.arange(401) * 20.0
    filters = np.zeros((80, 401))
    for k in range(80):
        left, centre, right = edges[k : k + 3]
        triangle = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
        filters[k] = np.maximum(0, triangle) * 2 / (right - left)
    return filters


@pytest.mark.parametrize("frames", [1, 5, 32])
@pytest.mark.parametrize("level", [0.0, 0.001, 0.8])
def test_mel_is_the_definition(frames: int, level: float) -> None:
    samples = frames * 640
    noise = np.random.default_rng(frames).uniform(-level, level, samples)
    wave = (noise + 0.5 * level * np.sin(np.arange(samples) * 0.2)).astype(np.float32)
    mel = log_mel(torch.from_numpy(wave)).numpy()
    assert mel.dtype == np.float32
    np.testing.assert_allclose(mel, reference_mel(wave.astype(np.float64)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("num_frames", [5, 16, 25])
def test_every_window_that_fits_has_its_mel_columns(num_frames: int) -> None:
    for clip_length in range(num_frames, num_frames + 30):
        columns = log_mel(torch.zeros(clip_length * 640)).shape[1]
        assert mel_start(clip_length - num_frames) + mel_columns(num_frames) <= columns


@pytest.mark.parametrize("shape", [(0,), (1, 640)])
def test_mel_refuses_what_is_no_wave(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="a wave must be"):
        log_mel(torch.zeros(shape))


@pytest.mark.parametrize("height, width", [(64, 64), (120, 90), (33, 250)])
def test_resize_is_bit_exact(height: int, width: int) -> None:
    frames = torch.randint(0, 256, (3, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(frames.float(), 96, mode="bicubic", antialias=True, align_corners=False)
    resized = resize_frames(frames, 96)
    assert resized.dtype == torch.uint8
    assert torch.equal(resized, expected.clamp(0, 255).round().byte())


def test_resize_to_the_same_size_changes_nothing() -> None:
    frames = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    assert torch.equal(resize_frames(frames, 48), frames)


def test_a_long_wave_is_computed_in_blocks_without_a_seam() -> None:
    wave = torch.rand(16_000 * 60, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole, around = log_mel(wave), log_mel(wave[200 * 4000 : 200 * 4200])  # a block ends at column 4096
    assert whole.shape == (80, 4801)
    assert torch.equal(whole[:, 4010:4190], around[:, 10:190])
