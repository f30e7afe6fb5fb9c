"""How well two sets of traces explain each other at each offset between them, judged on stretches not learned from.

Why held out: a dozen mouth traces fit any sound of a few seconds, at every offset. Only at the true one does what was
learned in some stretches hold in the others. Linear maps are enough for one clip of one speaker (the idea of FaceSync,
Slaney and Covell 2000, which had no held-out part). Both directions count, because they fail on different clips.
All of it comes from products of the traces, summed over short blocks: no stretch is gone through twice.
"""

# T frames, P mouth traces, L mel columns, Q sound traces, O offsets, B blocks, F folds, A inputs and 1, V V all and 1

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orchestrator.evaluation.traces import COLUMNS_PER_FRAME, Floats, at_columns

Indices = NDArray[np.int64]

BLOCKS = 24
"""Pieces of a clip; it needs that many frames at every offset."""
_FOLDS = (12, 24)
"""The numbers of stretches, one of which is left out at a time. More than one number: where the cuts lie is chance."""
_RIDGE = 0.3
_LIMIT = 0.999


def agreement(mouth_TP: Floats, sound_LQ: Floats, offsets_O: Floats, *, first: int = 0) -> Floats:
    """Held-out agreement, `(2 * directions, O)`: a row per way to measure it.

    Args:
        mouth_TP: traces of the picture, frame t standing for the time (t + 0.5) / 25 s.
        sound_LQ: traces of the sound, column k standing for the time k / 80 s.
        offsets_O: how many frames later than the picture the sound is looked up. Frames whose sound would lie outside
            of the clip do not count at that offset.
        first: which frame of the clip the traces of the picture begin with; those of the sound begin with the clip.

    Returns:
        Fisher's z of the held-out correlation, weighted by the root of the share of frames that count: an offset at
        which less is compared has to agree better.
    """
    products, shares = zip(*(_products(mouth_TP, sound_LQ, first + float(offset)) for offset in offsets_O), strict=True)
    products_OBVV = np.stack(products)
    mouth, sound = np.arange(mouth_TP.shape[1]), mouth_TP.shape[1] + np.arange(sound_LQ.shape[1])
    rows = [
        _held_out(products_OBVV, inputs, outputs, folds)
        for folds in _FOLDS
        for inputs, outputs in ((mouth, sound), (sound, mouth))
    ]
    return np.stack(rows) * np.sqrt(np.array(shares))


def _products(mouth_TP: Floats, sound_LQ: Floats, shift: float) -> tuple[Floats, float]:
    """The traces' products `(B, V, V)` with the sound `shift` frames on, and the share of the frames that count."""
    columns: Floats = (np.arange(len(mouth_TP), dtype=np.float64) + (0.5 + shift)) * COLUMNS_PER_FRAME
    counts = (columns >= 0) & (columns <= len(sound_LQ) - 1)
    both = np.concatenate([mouth_TP[counts], at_columns(sound_LQ, columns[counts])], axis=1)
    both = both - both.mean(axis=0)
    both /= np.maximum(both.std(axis=0), 1e-6)
    both = np.concatenate([both, np.ones((len(both), 1))], axis=1)
    edges = np.linspace(0, len(both), BLOCKS + 1).astype(int)
    blocks = (both[a:b] for a, b in pairwise(edges))
    return np.stack([block.T @ block for block in blocks]), float(counts.mean())


def _held_out(products_OBVV: Floats, inputs: Indices, outputs: Indices, folds: int) -> Floats:
    """Fisher's z of the correlation between outputs and what ridge regression on other stretches predicts, `(O,)`."""
    size = products_OBVV.shape[-1]
    inputs = np.append(inputs, size - 1)
    tested_OFVV = products_OBVV.reshape(len(products_OBVV), folds, -1, size, size).sum(axis=2)
    learned_OFVV = tested_OFVV.sum(axis=1, keepdims=True) - tested_OFVV
    frames_OF11 = learned_OFVV[..., -1:, -1:]
    penalty = _RIDGE * frames_OF11 * np.diag(np.append(np.ones(len(inputs) - 1), 0.0))
    within, across = np.ix_(inputs, inputs), np.ix_(inputs, outputs)
    maps = np.linalg.solve(learned_OFVV[(..., *within)] + penalty, learned_OFVV[(..., *across)])
    together = (maps * tested_OFVV[(..., *across)]).sum(axis=(1, 2, 3))
    predicted = (maps * (tested_OFVV[(..., *within)] @ maps)).sum(axis=(1, 2, 3))
    heard = np.diagonal(tested_OFVV, axis1=2, axis2=3)[..., outputs].sum(axis=(1, 2))
    return np.arctanh(np.clip(together / np.sqrt(np.maximum(predicted * heard, 1e-12)), -_LIMIT, _LIMIT))
