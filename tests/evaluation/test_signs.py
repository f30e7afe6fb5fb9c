"""Signs of a bad clip: stills, with and without grain, stalls, and soundtracks without sound."""

# T frames, C channels, H W pixels, M mel bins, L mel columns

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from orchestrator.data.media.features import log_mel
from orchestrator.evaluation.signs import frozen_share, is_silent, is_static, is_steady, mouth_motion


def test_motion_is_where_the_mouth_moves_and_in_units_of_the_contrast() -> None:
    frames = talking(30)
    frames[10:15] = frames[10]
    motion = mouth_motion(frames)
    assert motion.shape == (29,)
    assert not motion[10:14].any()
    assert motion[:9].min() > 0
    assert mouth_motion(frames // 2 + 20) == pytest.approx(motion, rel=0.1, abs=0.01)


def test_of_a_whole_face_the_lower_half_counts() -> None:
    lower = talking(20)
    blinking = np.random.default_rng(0).integers(0, 255, lower.shape, dtype=np.uint8)
    assert np.array_equal(mouth_motion(np.concatenate([blinking, lower], axis=2)), mouth_motion(lower))


@pytest.mark.parametrize("grain", [0, 2, 15])
def test_a_still_is_static_with_and_without_grain(grain: int) -> None:
    rng = np.random.default_rng(1)
    frames = talking(60)
    still = frames[:1].repeat(60, axis=0)
    assert is_static(with_grain(still, grain, rng))
    assert not is_static(with_grain(frames, grain, rng))


def test_what_is_too_short_or_empty_is_static() -> None:
    assert is_static(talking(4))
    assert is_static(np.zeros((20, 3, 16, 32), dtype=np.uint8))
    assert mouth_motion(talking(1)).shape == (0,)


def test_frozen_stretches_are_counted_by_their_frames() -> None:
    frames = talking(40)
    frames[10:20] = frames[10]
    frames[30:33] = frames[30]  # too short: a still moment of a mouth
    assert frozen_share(frames) == pytest.approx(10 / 40)
    assert frozen_share(frames[:1].repeat(40, axis=0)) == 1
    assert frozen_share(talking(40)) == 0
    assert frozen_share(frames[:0]) == 0


@pytest.mark.parametrize(
    ("level", "silent", "steady"), [(0.0, True, True), (3e-4, True, True), (0.05, False, True), (0.3, False, True)]
)
def test_noise_is_silent_by_its_level_and_always_steady(level: float, silent: bool, steady: bool) -> None:
    mel = mel_of(np.random.default_rng(0).normal(0, level, 32_000))
    assert (is_silent(mel), is_steady(mel)) == (silent, steady)


def test_what_comes_and_goes_is_neither_silent_nor_steady() -> None:
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, 32_000) * (np.sin(np.arange(32_000) / 1000) > 0)
    assert not is_silent(mel_of(wave))
    assert not is_steady(mel_of(wave))


def talking(count: int) -> NDArray[np.uint8]:
    """Lower halves `(T, 3, 16, 32)` with a dark mouth that opens and closes."""
    openings = 2 + 2 * np.sin(np.arange(count) * 1.1)
    rows, columns = np.mgrid[:16, :32]
    face = 120 + 2 * columns + 3 * rows
    mouth_THW = ((rows - 8)[None] / (openings[:, None, None] + 1)) ** 2 + ((columns - 16)[None] / 6) ** 2
    frames_THW = np.where(mouth_THW < 1, 20 + 100 * np.minimum(mouth_THW, 1), face)
    return frames_THW[:, None].repeat(3, axis=1).astype(np.uint8)


def with_grain(frames: NDArray[np.uint8], grain: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The frames with noise of that deviation."""
    return (frames + rng.normal(0, grain, frames.shape)).clip(0, 255).astype(np.uint8)


def mel_of(wave: NDArray) -> NDArray[np.float32]:
    """The log-mel of a wave."""
    return log_mel(torch.from_numpy(wave.astype(np.float32))).numpy()
