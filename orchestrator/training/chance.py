"""Whether a run learns: its state from the figures of its validations, with the evidence and the likely causes.

Promises: `judge` is a pure function of the history of a run, so that a continued run gives the verdicts of one that
never stopped. `docs/chance.md` tells the statistics and the figures behind the thresholds.
"""

# N pairs

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import torch
from torch import Tensor

from orchestrator.training.causes import (
    Row,
    chance_causes,
    collapse_causes,
    collapse_evidence,
    evidence,
    least_spread,
    memorises,
    overfitting_causes,
    overfitting_evidence,
)
from orchestrator.training.intervals import CONFIDENCE, Z, welch_half_width


class LearningState(StrEnum):
    """What the validations of a run say about it."""

    COLLAPSED = "COLLAPSED"
    """All pictures, or all sounds, get the same embedding: nothing can be told apart."""
    AT_CHANCE = "AT_CHANCE"
    """Nothing shows that pairs in sync are told from pairs out of sync."""
    LEARNING = "LEARNING"
    """Pairs in sync are told from pairs out of sync, by more than luck explains."""
    OVERFITTING = "OVERFITTING"
    """They are, but training pairs much better than validation's, which have been getting worse."""


@dataclass(frozen=True)
class Verdict:
    """The state of a run after its latest validation."""

    state: LearningState
    why: str
    """One sentence with the figures that decided."""
    causes: tuple[str, ...] = ()
    """Likely causes with what to do, most likely first; none while it learns."""


SAME = 1e-7
"""Embeddings whose spread is below this are the same: their directions differ by 0.03 degrees. The lowest spread seen
of a fresh network is 17 times this; constants have none up to rounding."""
WORSE_IN_A_ROW = 3
"""Validations in a row that must be worse than the best before a run counts as overfitting."""


def judge(history: Sequence[Row]) -> Verdict:
    """The state of a run.

    Args:
        history: its validations, oldest first; those without `val/gap` tell nothing and are left out.
    """
    rows = [row for row in history if "val/gap" in row]
    if not rows:
        return Verdict(LearningState.AT_CHANCE, "no validation has been judged yet")
    latest, told = rows[-1], _tells_apart(rows)
    if _overfits(rows):
        best = max(rows, key=_auc)
        return Verdict(LearningState.OVERFITTING, overfitting_evidence(latest, best), tuple(overfitting_causes(best)))
    if told[-1]:
        return Verdict(LearningState.LEARNING, f"pairs are told apart: {evidence(latest)}")
    if least_spread(latest)[0] < SAME:
        return Verdict(LearningState.COLLAPSED, collapse_evidence(latest), tuple(collapse_causes(rows)))
    why = f"nothing shows that pairs are told apart: {evidence(latest)}"
    return Verdict(LearningState.AT_CHANCE, why, tuple(chance_causes(rows, told)))


def step_sums(cosines: Tensor, labels: Tensor) -> Tensor:
    """What a batch adds to the figures of the steps between two reports; sums of several batches are added up.

    Cosines count from 0.5, where those of a net that knows nothing lie, so that float32 keeps their differences. Pairs
    whose cosine is no finite number are left out. Nothing waits for the device.

    Args:
        cosines: (N,).
        labels: (N,) 1 in sync, 0 out of sync.

    Returns:
        (7,) on the device, float64 for cosines in float64 and else float32: of the positives their number, sum and sum
        of squares; the same of the negatives; and how many lie on the right side of 0.5.
    """
    values = (cosines if cosines.dtype == torch.float64 else cosines.float()) - 0.5
    finite, truth = torch.isfinite(values), labels.bool()
    values = torch.where(finite, values, 0)
    sides = torch.stack([finite & truth, finite & ~truth]).to(values.dtype)
    moments = torch.stack([torch.ones_like(values), values, values.square()])
    right = (finite & ((values > 0) == truth)).sum()
    return torch.cat([(sides @ moments.T).flatten(), right.to(values.dtype)[None]])


def sums_to_figures(sums: Sequence[float]) -> dict[str, float]:
    """Accuracy at 0.5, the two mean cosines and their gap with its 95% interval, from added `step_sums`.

    The interval is as wide as a gap can be where there are too few pairs to tell; a side without a pair has cosine 0.5.
    """
    sides = (_Side(*sums[0:3]), _Side(*sums[3:6]))
    positive, negative = sides
    gap = positive.mean - negative.mean
    half = welch_half_width((positive.count, negative.count), (positive.variance, negative.variance))
    return {
        "accuracy": sums[6] / max(positive.count + negative.count, 1),
        "positive_cosine": 0.5 + positive.mean,
        "negative_cosine": 0.5 + negative.mean,
        "gap": gap,
        "gap_low": max(gap - half, -2.0),
        "gap_high": min(gap + half, 2.0),
    }


@dataclass(frozen=True)
class _Side:
    """The positives or the negatives; cosines count from 0.5."""

    count: float
    total: float
    squares: float

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)

    @property
    def variance(self) -> float:
        # sums in float32 know the variance no better than to a millionth of the mean square
        least = 1e-6 * self.squares / max(self.count, 1)
        return max((self.squares - self.count * self.mean**2) / max(self.count - 1, 1), least)


def _tells_apart(rows: Sequence[Row]) -> list[bool]:
    """Of every validation, whether it and those before show that pairs are told apart.

    A run that looks often is lucky sometimes. Validation k therefore begins to believe at the level 5% / (k (k + 1)):
    these add up to 5% however often one looks, whatever the dependence between validations. A run that is believed
    needs to stay above chance at 95% only, so that one that learns slowly does not flicker.
    """
    told: list[bool] = []
    for number, row in enumerate(rows, 1):
        believed = bool(told) and told[-1]
        needed = Z if believed else NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / (number * (number + 1)))
        half = row["val/gap"] - row["val/gap_low"]
        above = row["val/gap"] > 0 and row["val/gap"] * Z > half * needed
        told.append(above and row.get("val/auc_low", 1.0) > 0.5)
    return told


def _overfits(rows: Sequence[Row]) -> bool:
    """Training pairs clearly better than validation's, and the latest validations all worse than the best one."""
    if len(rows) <= WORSE_IN_A_ROW or not memorises(rows[-1]):
        return False
    return all(_worse(row, rows[:-WORSE_IN_A_ROW]) for row in rows[-WORSE_IN_A_ROW:])


def _worse(row: Row, before: Sequence[Row]) -> bool:
    """Whether pairs are ranked worse than in the best validation before, and clearly so, or at a clearly higher loss.

    Clear is what has intervals that do not touch: luck alone puts three plain figures in a row below the best of many.
    """
    best, lowest = max(before, key=_auc), min(before, key=lambda one: one.get("val/loss", math.inf))
    clear = row.get("val/auc_high", 1.0) < best.get("val/auc_low", 0.0) or (
        row.get("val/loss_low", 0.0) > lowest.get("val/loss_high", math.inf)
    )
    return clear and _auc(row) < _auc(best)


def _auc(row: Row) -> float:
    return row.get("val/auc", 0.0)
