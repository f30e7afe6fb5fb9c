"""A clip's picture and sound as a few curves over time: what an estimate without any network can compare.

Why these: a mouth is soft, so a handful of principal components of the coarse picture, with their slopes, hold most of
what it does, wherever in the picture it is; and four bands of the log-mel, with their slopes, hold what its shape does
to the sound. Nothing here knows what a mouth looks like.
Contract: a picture that is brighter, darker or of another size, and a sound that is louder, give the same traces (up to
rounding and signs). No trace is NaN; what does not move gives no trace at all.
"""

# T frames, C channels, H W pixels, R C rows and columns of blocks, D blocks in all, P mouth traces
# L mel columns, M mel bins, Q sound traces

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import DataError

Floats = NDArray[np.float64]

COLUMNS_PER_FRAME = 3.2
_GRID = (8, 16)
_SAMPLED = 4
"""Pixels per side that are looked at in a block: more cost time and change nothing."""
_CHUNK = 512
"""Frames that are floats at once."""
_COMPONENTS = 6
_STEADY = 1e-7
"""Share of a picture's own contrast (variance) below which a component is rounding, not movement."""
_BAND_EDGES = (0, 12, 28, 50, 80)
"""Mel bins: voicing, the first formant, the second, friction."""
_DYNAMICS = 4.0
"""Log-mel units (12.5 dB each) below the loudest that count: deeper is the room, or digital silence."""
_SMOOTHING_FRAMES = 1.5
"""Half width of the triangle that smooths the sound: faster than that no mouth follows."""
_TINY = 1e-9


def mouth_blocks(frames_TCHW: NDArray[np.generic]) -> Floats:
    """The part of the picture with the mouth as `(T, D)` coarse grey blocks, in units of the picture's own contrast.

    Square pictures are taken for whole faces, of which the lower half counts. The mean of every frame is taken out, so
    that a flickering light is no movement.

    Raises:
        DataError: `bad_frames`: values that are no numbers.
    """
    height, width = frames_TCHW.shape[2:]
    part = frames_TCHW[:, :, height // 2 :] if height == width else frames_TCHW
    chunks = [_coarse(part[first : first + _CHUNK]) for first in range(0, max(len(part), 1), _CHUNK)]
    blocks_TD = np.concatenate(chunks).astype(np.float64)
    if not np.isfinite(blocks_TD).all():
        raise DataError("the frames hold values that are not finite numbers", reason="bad_frames")
    blocks_TD -= blocks_TD.mean(axis=1, keepdims=True)
    contrast = float(blocks_TD.mean(axis=0).std()) if len(blocks_TD) else 0.0
    return blocks_TD / contrast if contrast > _TINY else np.zeros_like(blocks_TD)


def mouth_traces(blocks_TD: Floats) -> Floats:
    """What moves, as `(T, P)` traces of mean 0 and deviation 1: the largest components, then their slopes."""
    moving = blocks_TD - blocks_TD.mean(axis=0)
    variances, directions = np.linalg.eigh(moving.T @ moving / len(moving))
    largest = variances.argsort()[::-1][:_COMPONENTS]
    kept = largest[variances[largest] > _STEADY]
    return _standardised(_with_slopes(moving @ directions[:, kept]))


def sound_traces(mel_ML: NDArray[np.floating]) -> Floats:
    """The sound as `(L, Q)` traces at the columns of the mel: the bands, then their slopes."""
    mel = np.maximum(mel_ML, mel_ML.max() - _DYNAMICS).astype(np.float64)
    bands = [mel[a:b].mean(axis=0) for a, b in pairwise(_BAND_EDGES)]
    return _standardised(_with_slopes(np.stack([_smooth(band) for band in bands], axis=1)))


def at_columns(traces_LQ: Floats, columns_T: Floats) -> Floats:
    """Traces between the columns of the mel, `(T, Q)`."""
    first = np.clip(columns_T.astype(np.int64), 0, len(traces_LQ) - 2)
    share = (columns_T - first)[:, None]
    return traces_LQ[first] * (1 - share) + traces_LQ[first + 1] * share


def _coarse(pixels_TCHW: NDArray[np.generic]) -> NDArray[np.floating]:
    blocks_TRC = _average(_average(pixels_TCHW, 2, _GRID[0]), 3, _GRID[1]).mean(axis=1)
    return blocks_TRC.reshape(len(blocks_TRC), blocks_TRC.shape[1] * blocks_TRC.shape[2])


def _average(pixels: NDArray[np.generic], axis: int, count: int) -> NDArray[np.floating]:
    """The means of `count` stretches of an axis, each from a few evenly spread pixels; a shorter axis stays."""
    length = pixels.shape[axis]
    if length <= count:
        return pixels.astype(np.float32)
    number = min(length, count * _SAMPLED)
    places = np.arange(number) * length // number
    groups = np.searchsorted(places, np.arange(count) * length / count)
    picked = pixels.take(places, axis=axis).astype(np.float32)
    sizes = np.diff([*groups, number]).reshape([-1 if n == axis else 1 for n in range(pixels.ndim)])
    return np.add.reduceat(picked, groups, axis=axis) / sizes


def _with_slopes(traces: Floats) -> Floats:
    return np.concatenate([traces, np.gradient(traces, axis=0)], axis=1)


def _standardised(traces: Floats) -> Floats:
    """Mean 0 and deviation 1; what does not move stays 0."""
    centred = traces - traces.mean(axis=0)
    deviation = centred.std(axis=0)
    return np.where(deviation > _TINY, centred / np.maximum(deviation, _TINY), 0.0)


def _smooth(curve_L: Floats) -> Floats:
    reach = int(np.ceil(_SMOOTHING_FRAMES * COLUMNS_PER_FRAME))
    weights = np.maximum(0.0, 1 - np.abs(np.arange(-reach, reach + 1)) / (_SMOOTHING_FRAMES * COLUMNS_PER_FRAME))
    return np.convolve(np.pad(curve_L, reach, mode="edge"), weights / weights.sum(), mode="valid")
