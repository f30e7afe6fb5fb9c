"""The field's fixed units of sound and picture, on which every pretrained SyncNet was trained.

Everything that converts between video frames, mel columns and audio samples asks this file, so that no two rooms
can disagree about it.
"""

from __future__ import annotations

import math

FPS = 25
"""Video frames per second."""
SAMPLE_RATE = 16_000
"""Audio samples per second."""
HOP = 200
"""Audio samples per mel column: 80 columns a second, 3.2 per video frame."""
N_MELS = 80
"""Mel bins."""


def mel_columns(num_frames: int) -> int:
    """How many mel columns a window of `num_frames` video frames has: ceil(num_frames / 5 * 16) (16 -> 52)."""
    return math.ceil(num_frames * 16 / 5)


def mel_start(frame: int) -> int:
    """The first mel column of a window that starts at video frame `frame`: int(3.2 * frame)."""
    return frame * 16 // 5


def mel_shift(seconds: float) -> int:
    """A time in whole mel columns, the nearest: sound is moved by whole columns."""
    return round(seconds * SAMPLE_RATE / HOP)
