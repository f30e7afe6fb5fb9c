"""Losses on pairs of unit embeddings.

Shapes: B pairs, E embedding. Label 1 means that mouth and speech belong together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from orchestrator.errors import RunError

CHANCE_LOSS = math.log(2)
"""Where the cosine loss stays for a net that knows nothing."""

_EDGE = 1e-6


def cosine_similarity(vision: Tensor, audio: Tensor) -> Tensor:
    """(B, E), (B, E) unit vectors -> (B,) cosines in float32, whatever the autocast type was."""
    return (vision.float() * audio.float()).sum(dim=1)


def cosine_bce(vision: Tensor, audio: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of the cosine against the label, mean over the batch: the loss of Wav2Lip and LatentSync."""
    return bce_of_cosines(cosine_similarity(vision, audio), labels)


def bce_of_cosines(cosines: Tensor, labels: Tensor) -> Tensor:
    """The same loss from the cosines, (B,) float32, themselves.

    The cosine is kept within [1e-6, 1 - 1e-6]: rounding carries the cosine of equal vectors past 1, on which the
    cross-entropy would be undefined.

    Raises:
        RunError: a cosine is no number; on a GPU torch stops by itself, because looking would cost a wait per step.
    """
    if cosines.device.type == "cpu" and not torch.isfinite(cosines).all():
        found = "the network gives embeddings that are not finite numbers"
        raise RunError(found, hint="training diverged (lower `optim.lr`), or the checkpoint or the corpus is damaged")
    cosine = cosines.clamp(_EDGE, 1 - _EDGE)
    # autocast refuses binary_cross_entropy in half precision; the inputs are float32 already
    with torch.autocast(device_type=cosine.device.type, enabled=False):
        return F.binary_cross_entropy(cosine, labels.float())
