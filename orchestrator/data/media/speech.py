"""In which video frames somebody is heard: one bit per frame, by the sound's level alone.

A frame counts as speech when its sound is at most 23 dB below the clip's loud passages, or a neighbour within 80 ms is:
the closures of p, t and k are part of speech. It tells speech from pauses with the usual noise of a room (25 to 45 dB
below in the recordings that were looked at), not speech from other sounds.
"""

# T frames

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE

_BELOW_LOUD_DB = 23.0
_LOUD_PERCENTILE = 95
_REACH = 2  # frames
_BLOCK = 1000  # frames


def speech_frames(wave: NDArray[np.float32], floor: float) -> NDArray[np.bool_]:
    """Whether speech is heard in each frame: `(T,)`.

    Args:
        wave: `(T * 640,)` mono at 16 kHz in [-1, 1].
        floor: root mean square below which a frame is silent, however quiet the clip is.
    """
    level = np.sqrt(frame_power(wave))
    threshold = max(floor, np.percentile(level, _LOUD_PERCENTILE) * 10 ** (-_BELOW_LOUD_DB / 20))
    return np.convolve(level >= threshold, np.ones(2 * _REACH + 1), mode="full")[_REACH:-_REACH] > 0


def frame_power(wave: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean square of the sound of each frame `(T,)`; in blocks, because a long wave in double is large."""
    frames = wave.reshape(-1, SAMPLE_RATE // FPS)
    blocks = (frames[first : first + _BLOCK] for first in range(0, len(frames), _BLOCK))
    return np.concatenate([np.square(block, dtype=np.float64).mean(axis=1) for block in blocks])


def pack_bits(frames: NDArray[np.bool_]) -> bytes:
    """The bits as the manifest stores them, eight frames in a byte, the first in the highest bit."""
    return np.packbits(frames).tobytes()


def unpack_bits(packed: bytes, num_frames: int) -> NDArray[np.bool_]:
    """The inverse of `pack_bits`."""
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=num_frames).astype(np.bool_)
