"""Figures on a balanced list of pairs, from their cosines. Pure.

Definitions: a pair is predicted to be in sync when its cosine exceeds the threshold (0.5 unless said otherwise); AUC
is the chance that a positive pair has a higher cosine than a negative one. Chance is 0.5 for both.
"""

# N pairs

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from orchestrator.models import bce_of_cosines


def pair_metrics(cosines: Tensor, labels: Tensor) -> dict[str, float]:
    """Loss, accuracy at 0.5, best threshold with its accuracy, AUC and the two mean cosines.

    Args:
        cosines: (N,) float.
        labels: (N,) 1 in sync, 0 out of sync; both kinds must occur.
    """
    cosines, truth = cosines.float(), labels.bool()
    threshold, best = best_threshold(cosines, truth)
    return {
        "loss": float(bce_of_cosines(cosines, labels)),
        "accuracy": float(((cosines > 0.5) == truth).float().mean()),
        "accuracy_at_best_threshold": best,
        "best_threshold": threshold,
        # thresholds=None is the exact area; logits must not be guessed from the range, so the values are kept in [0, 1]
        "auc": float(binary_auroc(cosines.clamp(0, 1), truth.long(), thresholds=None)),
        "positive_cosine": float(cosines[truth].mean()),
        "negative_cosine": float(cosines[~truth].mean()),
    }


def best_threshold(cosines: Tensor, truth: Tensor) -> tuple[float, float]:
    """The threshold with the highest accuracy, half-way between two neighbouring cosines, and that accuracy."""
    ordered, order = torch.sort(cosines.double())
    hits = truth[order].long()
    # predicting "in sync" above place i: right are the negatives up to i and the positives beyond it
    right = torch.cat([hits.new_zeros(1), torch.cumsum(1 - 2 * hits, 0)]) + hits.sum()
    # a threshold between two equal cosines cannot exist
    distinct = torch.cat([torch.tensor([True]), ordered[1:] > ordered[:-1], torch.tensor([True])])
    place = int(torch.where(distinct, right, -1).argmax())
    edges = torch.cat([ordered[:1] - 1e-6, (ordered[1:] + ordered[:-1]) / 2, ordered[-1:] + 1e-6])
    return float(edges[place]), float(right[place]) / len(cosines)


def score(metric: str, value: float) -> float:
    """A figure turned so that higher is better, whatever it measures."""
    return -value if metric.endswith("loss") else value
