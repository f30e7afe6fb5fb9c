"""Figures of an evaluation, each with its interval, what chance would give, and its definition.

Pairs of one speaker share a face and a voice, so whole speakers are drawn anew for every interval (see
`training.comparison`); where a corpus has one speaker, whole clips are. Curves and areas are scikit-learn's.
"""

# N pairs, C clips

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.evaluation.clips import WINDOWS_AVERAGED, ClipReport
from orchestrator.evaluation.offsets import MAX_OFFSET
from orchestrator.models import CHANCE_LOSS
from orchestrator.training.comparison import Estimate, Floats, ratio_interval, statistic_interval, value_interval

BINS = 10
"""Of the calibration curve."""
WITHIN = (0, 1, 2)
"""Frames by which a right offset may be off."""
CLIP_AVERAGED = 10
"""K of the offset accuracy that stands for all."""
_OFFSETS = 2 * MAX_OFFSET + 1


@dataclass(frozen=True)
class Figure:
    """One figure of an evaluation."""

    name: str
    """As it is called in MLflow and JSON."""
    title: str
    """As people read it."""
    value: float
    low: float
    """Lower end of the 95% interval."""
    high: float
    chance: float | None
    """What a network gives that knows nothing; none where that depends on the network."""
    definition: str
    """How it is measured, in a sentence."""
    higher_is_better: bool = True


@dataclass(frozen=True)
class ControlResult:
    """The outcome of a control."""

    name: str
    """As it is called in MLflow and JSON."""
    title: str
    """What was done, as people read it."""
    expected: str
    """What must come out."""
    found: Estimate | None
    """What came out, with its 95% interval; none where nothing could be asked."""
    passed: bool | None
    """Whether it is as expected; none where these pairs show neither."""
    why: str
    """The outcome in a sentence."""


@dataclass(frozen=True)
class Curves:
    """What is drawn of the pairs."""

    roc: tuple[tuple[float, ...], tuple[float, ...]]
    """False and true positive rate."""
    precision_recall: tuple[tuple[float, ...], tuple[float, ...]]
    """Recall and precision."""
    calibration: tuple[tuple[float, float, int], ...]
    """For each bin of the cosine that has pairs: mean prediction, share that is in sync, pairs."""
    in_sync: tuple[int, ...]
    """Pairs in sync by cosine, in 40 bins from -1 to 1."""
    out_of_sync: tuple[int, ...]
    """The same for pairs out of sync."""


def pair_figures(
    cosines: NDArray[np.float32], labels: NDArray[np.int8], clusters: NDArray[Any], best_threshold: float
) -> list[Figure]:
    """Figures of balanced pairs.

    Args:
        cosines: (N,) finite.
        labels: (N,) 1 in sync, 0 out of sync; both kinds must occur.
        clusters: (N,) the speaker of each pair, or its clip.
        best_threshold: at which these very pairs are told best.
    """
    from sklearn.metrics import average_precision_score

    truth, predicted = labels.astype(bool), np.clip(cosines.astype(np.float64), 0, 1)

    def interval(statistic: Callable[[Floats], float]) -> Estimate:
        return statistic_interval(statistic, clusters, (0.0, 1.0))

    def precision(weights: Floats) -> float:
        if not (weights @ truth and weights @ ~truth):
            return math.nan
        return float(average_precision_score(truth, cosines, sample_weight=weights))

    right = ((cosines > best_threshold) == truth).astype(np.float64)
    told = "chance that a pair in sync has the higher cosine of two"
    share = float(truth.mean())
    return [
        _figure(
            "accuracy",
            "pair accuracy",
            value_interval("val/accuracy", cosines, labels, clusters),
            0.5,
            "share of balanced pairs told right; in sync is a cosine above 0.5",
        ),
        _figure(
            "accuracy_at_best_threshold",
            f"accuracy at the best threshold ({best_threshold:.3f})",
            ratio_interval(right, np.ones(len(right)), clusters, share=True),
            0.5,
            "the same at the threshold that suits these very pairs best, which flatters small lists",
        ),
        _figure("auc", "area under the ROC curve", value_interval("val/auc", cosines, labels, clusters), 0.5, told),
        _figure(
            "average_precision",
            "average precision",
            interval(precision),
            share,
            "area under the precision-recall curve",
        ),
        _figure(
            "loss",
            "loss",
            value_interval("val/loss", cosines, labels, clusters),
            CHANCE_LOSS,
            "binary cross-entropy of the cosine; ln 2 by chance",
            higher=False,
        ),
        _figure(
            "brier",
            "Brier score",
            interval(lambda weights: float(weights @ np.square(predicted - truth) / weights.sum())),
            0.25,
            "mean squared difference of cosine and label; 0.25 by chance",
            higher=False,
        ),
        _figure(
            "calibration_error",
            "calibration error",
            interval(lambda weights: calibration_error(predicted, truth, weights)),
            None,
            f"mean difference of cosine and share in sync over {BINS} bins of the cosine; 0 is perfect",
            higher=False,
        ),
    ]


def offset_figures(reports: Sequence[ClipReport], clusters: NDArray[Any]) -> list[Figure]:
    """Figures of offsets; none where no clip is long enough.

    Args:
        reports: of all clips.
        clusters: (C,) the speaker of each clip, or the clip.
    """
    figures = []
    for place, windows in enumerate(WINDOWS_AVERAGED):
        counts = np.array([report.hits[place][0] if report.hits else 0 for report in reports])
        for within in WITHIN if counts.any() else ():
            right = np.array([report.hits[place][1 + within] if report.hits else 0 for report in reports])
            figures.append(
                _figure(
                    f"offset_accuracy_{windows}_within_{within}",
                    f"offset found within {within} frame{'' if within == 1 else 's'}, {windows} windows averaged",
                    ratio_interval(right, counts, clusters, share=True),
                    (2 * within + 1) / _OFFSETS,
                    f"share of places where the best of {_OFFSETS} offsets is the corpus's own, give or take {within}",
                )
            )
    found = [(report.offset, cluster) for report, cluster in zip(reports, clusters, strict=True) if report.offset]
    if not found:
        return figures
    offsets, who = [offset for offset, _ in found], np.array([cluster for _, cluster in found])
    ones = np.ones(len(offsets))
    for within in (1, 2):
        right = np.array([abs(offset.frames) <= within for offset in offsets])
        figures.append(
            _figure(
                f"clip_offset_accuracy_within_{within}",
                f"offset of the whole clip found within {within} frame{'s' if within > 1 else ''}",
                ratio_interval(right, ones, who, share=True),
                (2 * within + 1) / _OFFSETS,
                f"share of clips whose offset, all windows averaged, is the corpus's own, give or take {within}",
            )
        )
    nulls = float(np.mean([offset.chance_confidence for offset in offsets]))
    distances = np.array([offset.distance for offset in offsets])
    medians = float(np.mean([offset.distance + offset.confidence for offset in offsets]))
    depths = np.array([offset.confidence for offset in offsets])
    return [
        *figures,
        _figure(
            "lse_d",
            "LSE-D",
            ratio_interval(distances, ones, who, share=False),
            medians,
            "mean over clips of the least mean distance; beside it the mean of their medians over offsets",
            higher=False,
        ),
        _figure(
            "lse_c",
            "LSE-C",
            ratio_interval(depths, ones, who, share=False),
            nulls,
            "mean over clips of median less least mean distance; beside it the same with the sound elsewhere",
        ),
    ]


def curves(cosines: NDArray[np.float32], labels: NDArray[np.int8]) -> Curves:
    """ROC, precision-recall and calibration curves, and the two histograms."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    truth = labels.astype(bool)
    false, true, _ = roc_curve(truth, cosines)
    precision, recall, _ = precision_recall_curve(truth, cosines, drop_intermediate=True)
    edges = np.linspace(-1, 1, 41)
    bounded = np.clip(cosines, -1, 1)
    return Curves(
        (tuple(false.tolist()), tuple(true.tolist())),
        (tuple(recall.tolist()), tuple(precision.tolist())),
        tuple(_bins(np.clip(cosines.astype(np.float64), 0, 1), truth)),
        tuple(np.histogram(bounded[truth], edges)[0].tolist()),
        tuple(np.histogram(bounded[~truth], edges)[0].tolist()),
    )


def calibration_error(predicted: Floats, truth: NDArray[np.bool_], weights: Floats) -> float:
    """The expected calibration error over `BINS` equal bins of (N,) predictions in [0, 1]."""
    place = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(place, weights * (predicted - truth), BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _bins(predicted: Floats, truth: NDArray[np.bool_]) -> list[tuple[float, float, int]]:
    place = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    told = []
    for number in range(BINS):
        inside = place == number
        if inside.any():
            told.append((float(predicted[inside].mean()), float(truth[inside].mean()), int(inside.sum())))
    return told


def _figure(
    name: str, title: str, found: Estimate, chance: float | None, definition: str, *, higher: bool = True
) -> Figure:
    return Figure(name, title, found.value, found.low, found.high, chance, definition, higher)
