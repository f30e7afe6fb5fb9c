"""Figures on a balanced list of pairs, from their cosines and embeddings. Pure.

Definitions: a pair is predicted to be in sync when its cosine exceeds the threshold (0.5 unless said otherwise); AUC
is the chance that a positive pair has a higher cosine than a negative one. Chance is 0.5 for both. The gap is the mean
cosine of the positives less that of the negatives: 0 by chance. `*_low` and `*_high` are the ends of a 95% interval.
"""

# N pairs, E embedding

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from orchestrator.errors import RunError
from orchestrator.models import bce_of_cosines
from orchestrator.training.chance import step_sums, sums_to_figures
from orchestrator.training.intervals import Z, auc_interval


def pair_metrics(cosines: Tensor, labels: Tensor) -> dict[str, float]:
    """Loss, accuracy at 0.5, best threshold with its accuracy, AUC, the two mean cosines and their gap, with intervals.

    Args:
        cosines: (N,) float.
        labels: (N,) 1 in sync, 0 out of sync; both kinds must occur.

    Raises:
        RunError: a cosine is no finite number.
    """
    cosines, truth = cosines.float(), labels.bool()
    if not torch.isfinite(cosines).all():
        found = "the network gives embeddings that are not finite numbers"
        raise RunError(found, hint="training diverged (lower `optim.lr`), or the checkpoint or the corpus is damaged")
    threshold, best = best_threshold(cosines, truth)
    auc = area_under_curve(cosines, truth)
    loss = float(bce_of_cosines(cosines, labels))
    uncertain = _loss_half_width(cosines, truth)
    low, high = auc_interval(auc, int(truth.sum()), int((~truth).sum()))
    return {
        "loss": loss,
        "loss_low": loss - uncertain,
        "loss_high": loss + uncertain,
        "accuracy_at_best_threshold": best,
        "best_threshold": threshold,
        "auc": auc,
        "auc_low": low,
        "auc_high": high,
        **sums_to_figures(step_sums(cosines.double(), labels).tolist()),
    }


def area_under_curve(cosines: Tensor, truth: Tensor) -> float:
    """The chance that a positive pair has a higher cosine than a negative one; among equals it is a toss."""
    positive, negative = cosines[truth], torch.sort(cosines[~truth]).values
    below = torch.searchsorted(negative, positive)
    not_above = torch.searchsorted(negative, positive, right=True)
    return float((below + not_above).double().mean()) / (2 * len(negative))


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


def _loss_half_width(cosines: Tensor, truth: Tensor) -> float:
    """Half the width of the 95% interval of the mean loss."""
    losses = -torch.where(truth, cosines, 1 - cosines).clamp(1e-6, 1).log()
    return Z * float(losses.std()) / len(losses) ** 0.5


def direction_sums(embeddings: Tensor) -> Tensor:
    """(N, E) embeddings of any length -> (E + 1,) float64 on their device: the sum of their directions, and how many
    have one. An embedding of zeros has none."""
    directions = F.normalize(embeddings.double().flatten(1), dim=1)
    return torch.cat([directions.sum(0), directions.norm(dim=1).sum()[None]])


def spread_of(sums: Tensor) -> float:
    """How far embeddings point in different directions: 1 less the length of their mean direction.

    0 where all are the same, or all are zeros, as a network of dead units gives them.

    Args:
        sums: (E + 1,) of `direction_sums`, added up over batches and ranks.
    """
    directions = float(sums[-1])
    # rounding carries the length of equal directions past their number
    return max(0.0, 1 - float(sums[:-1].norm()) / directions) if directions else 0.0


def score(metric: str, value: float) -> float:
    """A figure turned so that higher is better, whatever it measures."""
    return -value if metric.endswith("loss") else value
