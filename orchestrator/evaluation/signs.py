"""Signs of a bad clip that need no network: a picture that stands still, a soundtrack without sound.

Why: such clips teach a SyncNet nothing and no offset can be found in them, so an audit names them first.
Contract: pure functions of what a prepared corpus stores; pictures of any size, brighter or darker, with or without
grain, whole faces or lower halves, give the same answer. They are about the whole region of the mouth: a head that
moves around a mouth that does not is no still here.
"""

# T frames, C channels, H W pixels, M mel bins, L mel columns, D blocks

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.evaluation.traces import Floats, mouth_blocks

_MOVEMENT = 0.025
"""In units of the picture's contrast. The speakers that were looked at move by 0.07 and more, stills with strong grain
by less than 0.02."""
_LAG = 3
"""Frames in which a mouth has gone elsewhere; grain is as different after one."""
_SAME = 5e-4
"""Motion below which a frame repeats the one before, apart from what a codec does to it."""
_FROZEN_FRAMES = 5
_QUIET = -2.75
"""Mean of a loud column: about what noise at -57 dB of full scale has."""
_STEADY = 0.4
"""Log-mel units (12.5 dB each) between loud and quiet columns: speech has 1 and more, noise and hum 0.1."""


def mouth_motion(frames_TCHW: NDArray[np.generic]) -> Floats:
    """How much the region of the mouth changes from each frame to the next, `(T - 1,)`, in units of its contrast.

    A talking mouth reaches some hundredths to tenths, a still without grain 0.
    """
    return _motion(mouth_blocks(frames_TCHW))


def is_static(frames_TCHW: NDArray[np.generic]) -> bool:
    """Whether the picture is a still, with or without grain; so is a clip too short to tell (under 5 frames)."""
    return blocks_are_static(mouth_blocks(frames_TCHW))


def blocks_are_static(blocks_TD: Floats) -> bool:
    """`is_static` of ready blocks: unlike grain, movement is larger after a few frames than after one."""
    if len(blocks_TD) < _LAG + 2:
        return True
    near, far = (np.square(blocks_TD[lag:] - blocks_TD[:-lag]).mean() for lag in (1, _LAG))
    return bool(far - near < _MOVEMENT**2)


def frozen_share(frames_TCHW: NDArray[np.generic]) -> float:
    """Share of the frames that belong to a stretch of at least 5 in which nothing changes: stalls of a stream."""
    same = np.concatenate([[False], _motion(mouth_blocks(frames_TCHW)) < _SAME, [False]])
    turns = np.flatnonzero(same[1:] != same[:-1])
    lengths = turns[1::2] - turns[::2] + 1
    return float(lengths[lengths >= _FROZEN_FRAMES].sum() / len(frames_TCHW)) if len(frames_TCHW) else 0.0


def is_silent(mel_ML: NDArray[np.floating]) -> bool:
    """Whether even the loud passages are hardly more than digital silence."""
    return mel_ML.shape[1] == 0 or bool(np.percentile(mel_ML.mean(axis=0), 95) < _QUIET)


def is_steady(mel_ML: NDArray[np.floating]) -> bool:
    """Whether the sound never gets louder or quieter: noise, hum or one tone, but no speech."""
    if mel_ML.shape[1] == 0:
        return True
    quiet, loud = np.percentile(mel_ML.mean(axis=0), [5, 95])
    return bool(loud - quiet < _STEADY)


def _motion(blocks_TD: Floats) -> Floats:
    return np.abs(np.diff(blocks_TD, axis=0)).mean(axis=1)
