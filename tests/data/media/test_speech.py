"""Speech by level: pauses are told from speech, closures belong to it, and the bits survive packing."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.data.media.speech import pack_bits, speech_frames, unpack_bits


def wave_of(levels: list[float]) -> np.ndarray:
    """One level per video frame."""
    noise = np.random.default_rng(0).choice([-1.0, 1.0], 640 * len(levels))
    return (noise * np.repeat(levels, 640)).astype(np.float32)


def test_pauses_are_told_from_speech() -> None:
    heard = speech_frames(wave_of([0.3] * 10 + [0.002] * 20 + [0.3] * 10), floor=1e-3)
    assert np.flatnonzero(~heard).tolist() == list(range(12, 28))  # two frames around speech belong to it


def test_a_short_closure_is_speech() -> None:
    assert speech_frames(wave_of([0.3] * 5 + [0.0] * 4 + [0.3] * 5), floor=1e-3).all()


def test_a_quiet_speaker_is_heard_and_silence_is_not() -> None:
    assert speech_frames(wave_of([0.01] * 10), floor=1e-3).all()
    assert not speech_frames(wave_of([1e-4] * 10), floor=1e-3).any()


@pytest.mark.parametrize("frames", [1, 8, 13])
def test_bits_survive_packing(frames: int) -> None:
    bits = np.random.default_rng(frames).random(frames) < 0.5
    assert np.array_equal(unpack_bits(pack_bits(bits), frames), bits)
