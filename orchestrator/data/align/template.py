"""Where a face belongs in an aligned picture, and the smooth movement of the picture that keeps it there.

The picture is LatentSync's: a canvas of 210x280 units onto which a similarity (shift, turn, one scale) brings the
face, stretched to a square. There, three points are pinned: both eyebrows and the middle of the nose. MTCNN gives
other points, the eyes and the tip of the nose, so the template below says where *those* come to stand. It was measured
on clips aligned by LatentSync's own rule: six GRID speakers, whose eyes and nose tips were carried over by registering
raw and aligned pictures; they agree within 2 pixels from face to face. What remains is taken to be symmetric.

The mouth is left out on purpose: it moves, and its movement must stay in the picture, not in the transform.
"""

# T frames

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
CANVAS = np.array([210.0, 280.0])
"""Width and height of the canvas, before it is stretched to a square."""
TEMPLATE = np.array([[22.05, 26.25], [52.95, 26.25], [37.5, 43.75]]) * 2.8
"""Eye on the left, eye on the right, tip of the nose, on the canvas."""
_CENTRE = TEMPLATE.mean(axis=0)
_ARMS = TEMPLATE - _CENTRE


def fit(points_T52: NDArray[np.floating]) -> Doubles:
    """The similarity that brings the template nearest to each frame's eyes and nose (least squares).

    Args:
        points_T52: `(T, 5, 2)` landmarks in pixels of the source.

    Returns:
        `(T, 4)`: x, y of the template's centre in the source, then scale * cos and scale * sin of the turn. All four
        are linear in the points, so that filtering them is filtering the points.
    """
    points = np.asarray(points_T52, np.float64)[:, :3]
    centres = points.mean(axis=1)
    arms = points - centres[:, None]
    along = (arms * _ARMS).sum(axis=(1, 2))
    across = (arms[..., 1] * _ARMS[:, 0] - arms[..., 0] * _ARMS[:, 1]).sum(axis=1)
    return np.column_stack([centres, np.column_stack([along, across]) / (_ARMS**2).sum()])


def smooth(fits_T4: Doubles, seen_T: NDArray[np.bool_], sigma: float) -> Doubles:
    """Filter the fits of one segment; frames that were not seen are filled in from their neighbours.

    The filter fits, for each frame, a line through the frames around it, weighted by a Gaussian. It looks as far ahead
    as back, so it does not lag; at the segment's ends a line, unlike an average, does not pull the face back. The
    centre uses `sigma` frames, scale and turn twice that: they change slowly, and their noise moves the mouth most.
    """
    centre = _local_lines(fits_T4[:, :2], seen_T, sigma)
    return np.column_stack([centre, _local_lines(fits_T4[:, 2:], seen_T, 2 * sigma)])


def matrices(fits_T4: Doubles, resolution: int) -> Doubles:
    """`(T, 2, 3)`: for each frame, from pixels of the square picture to pixels of the source, both counted from the
    centre of the first pixel, as OpenCV's `warpAffine` takes them with `WARP_INVERSE_MAP`."""
    cos, sin = fits_T4[:, 2], fits_T4[:, 3]
    turn = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
    shift = fits_T4[:, :2] - turn @ _CENTRE
    stretched = turn * (CANVAS / resolution)
    return np.concatenate([stretched, (shift + stretched.sum(axis=2) / 2 - 0.5)[:, :, None]], axis=2)


def outside(fits_T4: Doubles, width: int, height: int, grid: int = 12) -> Doubles:
    """`(T,)` the share of the aligned picture that lies outside of a source of this size."""
    ticks = (np.arange(grid) + 0.5) / grid
    spots = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2) * CANVAS - _CENTRE
    cos, sin = fits_T4[:, 2:3], fits_T4[:, 3:4]
    x = fits_T4[:, 0:1] + cos * spots[:, 0] - sin * spots[:, 1]
    y = fits_T4[:, 1:2] + sin * spots[:, 0] + cos * spots[:, 1]
    return np.asarray(((x < 0) | (x > width) | (y < 0) | (y > height)).mean(axis=1))


def _local_lines(values_TK: Doubles, seen_T: NDArray[np.bool_], sigma: float) -> Doubles:
    """Each frame's value on the line fitted around it, with Gaussian weights on the frames that were seen."""
    frames = np.arange(len(values_TK))
    known = frames[seen_T]
    filled = np.column_stack([np.interp(frames, known, column[seen_T]) for column in values_TK.T])
    if sigma <= 0:
        return filled
    reach = int(np.ceil(4 * sigma))
    padded = np.pad(filled, ((reach, reach), (0, 0)))
    weight = np.pad(seen_T.astype(np.float64), reach)
    count, first, second = (np.zeros(len(frames)) for _ in range(3))
    level, slope = np.zeros_like(filled), np.zeros_like(filled)
    for step in range(-reach, reach + 1):
        window = slice(reach + step, reach + step + len(frames))
        share = weight[window] * np.exp(-0.5 * (step / sigma) ** 2)
        count, first, second = count + share, first + share * step, second + share * step**2
        level, slope = level + share[:, None] * padded[window], slope + (share * step)[:, None] * padded[window]
    spread = count * second - first**2
    sound = spread > 1e-6 * np.maximum(count, 1e-12) ** 2
    line = (second[:, None] * level - first[:, None] * slope) / np.where(sound, spread, 1)[:, None]
    return np.where(sound[:, None], line, filled)
