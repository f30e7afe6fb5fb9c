"""Is one network better than another on the same pairs, and by how much: figures and gains with honest intervals.

Pairs of one clip share a face, a voice and an offset, so the clip is what is drawn anew, whole (the cluster bootstrap
of Davison and Hinkley, "Bootstrap Methods and their Application", 1997, 3.8; for areas under ROC curves Rutter,
"Bootstrap estimation of diagnostic accuracy with patient-clustered data", 2000). Both networks of a comparison are
seen on the same draws, so that what makes a clip hard for both cancels. A pair belongs to one clip: its sound is of
the clip of its pictures.

The draws give a standard error, and Student's distribution with the clips' degrees of freedom the interval. Percentiles
of the draws would be too narrow below some 20 clips (with 5 clips, 95% intervals cover 83%), and in the tails that many
comparisons at once ask for (0.2% of 2000 draws are four) would be luck. A figure that is a share, accuracy or AUC, gets
Wilson's interval for as many independent pairs as its standard error speaks for (Korn and Graubard, "Confidence
intervals for proportions with small expected number of positive counts estimated from survey data", 1998).

In simulations, of which the tests have a short form, 95% intervals of gains cover 94 to 97% from 5 clips on, those of
figures 92 to 97%. Near the ceiling, as at an accuracy of 0.98 where few clips make all the errors, 10 clips cannot tell
what others would do (gains 89%, figures 83%); 40 nearly can (94% and 90%).

The ratios and other figures, by speaker: 93 to 96% with 8, 20 and 40 speakers, and 92% or more near the ceiling. Where
fewer than ten speakers or clips show both outcomes, a share is thought to come from fewer places; where none varies at
all, from one place a clip.

Promises: the same answer every time; an interval lies within what the figure can be, and is all of that where there is
one clip; the gain of a network over itself is 0, surely.
"""

# N pairs, C clips, R resamples

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.data.corpus.scores import ScoredPairs, read_scores
from orchestrator.errors import DataError
from orchestrator.models.losses import LARGEST_LOSS, bce_of_pairs
from orchestrator.training.intervals import CONFIDENCE, student_quantile
from orchestrator.training.metrics import score

Metric = Literal["val/accuracy", "val/auc", "val/loss"]
Floats = NDArray[np.float64]

RESAMPLES = 2000
"""Draws of clips: they know a standard error to 1.6%."""
_SEED = 0
_TELLING = 10
"""Of so many of what is drawn anew both outcomes must be known before a standard error is believed."""
_LARGEST = {"val/accuracy": 1.0, "val/auc": 1.0, "val/loss": LARGEST_LOSS}
"""What each figure is at most; all of them are at least 0."""


class Estimate(NamedTuple):
    """A figure, or a difference of figures, with its interval."""

    value: float
    low: float
    high: float


def value_interval(
    metric: Metric, cosines: NDArray[Any], labels: NDArray[Any], clusters: NDArray[Any], confidence: float = CONFIDENCE
) -> Estimate:
    """A figure of `pair_metrics`, as it would be on other clips of this kind.

    Args:
        metric: which figure.
        cosines: (N,) finite.
        labels: (N,) 1 in sync, 0 out of sync; both kinds must occur.
        clusters: (N,) the clip of each pair, by any name.
        confidence: chance that the interval holds the true value, in (0, 1).
    """
    figure = _Figure.of(metric, cosines, labels, clusters)
    error, quantile = figure.standard_error(), student_quantile(confidence, figure.freedom)
    if metric == "val/loss":
        half = quantile * error
        return Estimate(figure.value, max(figure.value - half, 0.0), min(figure.value + half, _LARGEST[metric]))
    return Estimate(figure.value, *_wilson(figure.value, error, len(labels), quantile))


def paired_gain(
    metric: Metric,
    cosines_a: NDArray[Any],
    cosines_b: NDArray[Any],
    labels: NDArray[Any],
    clusters: NDArray[Any],
    confidence: float = CONFIDENCE,
) -> Estimate:
    """What network b has over network a on the same pairs, turned so that higher is better, whatever the metric.

    Where every clip happens to gain the same, which two networks that are right everywhere do, half a pair in either
    direction is thought to have changed (Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions", 2005).

    Args:
        metric: the figure that counts.
        cosines_a: (N,) of the network that is compared with, finite.
        cosines_b: (N,) of the other.
        labels: (N,) 1 in sync, 0 out of sync; both kinds must occur.
        clusters: (N,) the clip of each pair, by any name.
        confidence: chance that the interval holds the true gain; for k gains at once 1 - 0.05 / k (Bonferroni).
    """
    if np.array_equal(cosines_a, cosines_b):
        return Estimate(0.0, 0.0, 0.0)
    a, b = (_Figure.of(metric, cosines, labels, clusters) for cosines in (cosines_a, cosines_b))
    gained = _Figure(b.parts - a.parts, a.counts, a.freedom)
    unseen = 0.0 if metric == "val/loss" else 1 / len(labels)
    half = student_quantile(confidence, gained.freedom) * math.hypot(gained.standard_error(), unseen)
    gain, largest = score(metric, gained.value), _LARGEST[metric]
    return Estimate(gain, max(gain - half, -largest), min(gain + half, largest))


def ratio_interval(
    parts: NDArray[Any], counts: NDArray[Any], clusters: NDArray[Any], *, share: bool, confidence: float = CONFIDENCE
) -> Estimate:
    """A ratio of sums over clips, as it would be on other clips of this kind: the clips' hits by their places, or the
    sum of a value by how many have it.

    Args:
        parts: (N,) what each clip adds to the numerator.
        counts: (N,) what it adds to the denominator, at least 0; not all are 0.
        clusters: (N,) what is drawn anew, e.g. the speaker of each clip, by any name.
        share: the ratio is one of a whole, in [0, 1].
        confidence: chance that the interval holds the true value, in (0, 1).
    """
    place = np.unique(clusters, return_inverse=True)[1]
    weights = _sums(place, counts)
    freedom = max(weights.sum() ** 2 / np.square(weights).sum() - 1, min(len(weights) - 1, 1))
    figure = _Figure(_sums(place, parts), (weights,), freedom)
    error, quantile = figure.standard_error(), student_quantile(confidence, freedom)
    if share:
        clips, total = int((np.asarray(counts) > 0).sum()), float(weights.sum())
        # how many have something to tell of the rarer outcome: with none or few, a standard error is worth little, and
        # the places of a clip count as one
        telling = int(np.minimum((figure.parts > 0).sum(), (figure.parts < weights).sum()))
        cap = max(clips, round(total * min(1.0, telling / _TELLING)))
        return Estimate(figure.value, *_wilson(figure.value, error, cap, quantile))
    return Estimate(figure.value, figure.value - quantile * error, figure.value + quantile * error)


def statistic_interval(
    statistic: Callable[[Floats], float],
    clusters: NDArray[Any],
    bounds: tuple[float, float],
    confidence: float = CONFIDENCE,
    draws: int = 400,
) -> Estimate:
    """Any figure of weighted pairs, as it would be on other clips of this kind.

    Args:
        statistic: (N,) how often each pair counts -> the figure; NaN where a draw has not both kinds of pairs.
        clusters: (N,) what is drawn anew, by any name.
        bounds: what the figure can be at least and at most.
        confidence: chance that the interval holds the true value, in (0, 1).
        draws: how many; 400 know a standard error to 3.5%.
    """
    place = np.unique(clusters, return_inverse=True)[1]
    value, counts = statistic(np.ones(len(place))), _sums(place, np.ones(len(place)))
    freedom = max(counts.sum() ** 2 / np.square(counts).sum() - 1, min(len(counts) - 1, 1))
    if freedom <= 0:
        return Estimate(value, *bounds)
    found = np.array([statistic(weights[place]) for weights in _draws(len(counts))[:draws]])
    error, quantile = (
        float(np.nanstd(found)) * math.sqrt((freedom + 1) / freedom),
        student_quantile(confidence, freedom),
    )
    return Estimate(value, *_within(value, error, len(place), quantile, bounds))


def stored_gain(a: Path, b: Path, metric: Metric, confidence: float = CONFIDENCE) -> Estimate:
    """`paired_gain` of the scores in one file over those in another (see `data.corpus.scores`).

    Raises:
        DataError: as `read_scores`; `other_pairs` where the files are of different pair lists.
    """
    first, second = read_scores(a), read_scores(b)
    _require_same_pairs((a, first), (b, second))
    return paired_gain(metric, first.cosines, second.cosines, first.labels, first.clips, confidence)


@dataclass(frozen=True)
class _Figure:
    """A figure as a ratio of sums over clips, which can be weighed anew; two networks' numerators can be subtracted."""

    parts: Floats
    """(C,) what the pairs of a clip add to the numerator; of the AUC (C, C), the positives of one clip against the
    negatives of another."""
    counts: tuple[Floats, ...]
    """(C,) each: the denominator is the product of their sums."""
    freedom: float
    """Clips less one; fewer where they have very different numbers of pairs (by Kish's effective number)."""

    @classmethod
    def of(cls, metric: Metric, cosines: NDArray[Any], labels: NDArray[Any], clusters: NDArray[Any]) -> _Figure:
        place = np.unique(clusters, return_inverse=True)[1]
        truth, counts = np.asarray(labels).astype(bool), _sums(place, np.ones(len(place)))
        freedom = max(counts.sum() ** 2 / np.square(counts).sum() - 1, min(len(counts) - 1, 1))
        if metric == "val/auc":
            return cls(_wins(cosines, truth, place), (_sums(place, truth), _sums(place, ~truth)), freedom)
        of_pairs = _losses(cosines, truth) if metric == "val/loss" else (np.asarray(cosines) > 0.5) == truth
        return cls(_sums(place, of_pairs), (counts,), freedom)

    @property
    def value(self) -> float:
        return float(self._weighed(np.ones((1, len(self.parts))))[0])

    def standard_error(self) -> float:
        """Of the value, from draws of clips; infinite for one clip."""
        if self.freedom <= 0:
            return math.inf
        found = self._weighed(_draws(len(self.parts)))
        # a draw of C clips varies by (C - 1) / C of what C new clips would
        return float(np.nanstd(found)) * math.sqrt((self.freedom + 1) / self.freedom)

    def _weighed(self, weights: Floats) -> Floats:
        """(R, C) times that each clip counts -> (R,) values; NaN for a draw without one of the two kinds of pairs."""
        sums = weights @ self.parts
        with np.errstate(invalid="ignore"):
            total = sums if sums.ndim == 1 else (sums * weights).sum(1)
            return total / np.prod([weights @ count for count in self.counts], axis=0)


@lru_cache(maxsize=2)
def _draws(clips: int) -> Floats:
    """(R, C) how often each clip is drawn; the same every time."""
    drawn = np.random.default_rng(_SEED).integers(clips, size=(RESAMPLES, clips))
    flat = (drawn + clips * np.arange(RESAMPLES)[:, None]).ravel()
    return np.bincount(flat, minlength=RESAMPLES * clips).reshape(RESAMPLES, clips).astype(np.float64)


def _sums(place: NDArray[np.intp], of_pairs: NDArray[Any]) -> Floats:
    """(N,) values -> (C,) their sums by clip."""
    return np.bincount(place, of_pairs).astype(np.float64)


def _wins(cosines: NDArray[Any], truth: NDArray[np.bool_], place: NDArray[np.intp]) -> Floats:
    """(C, C): how often a positive of one clip has a higher cosine than a negative of another; a tie is half a win."""
    clips, cosines = np.arange(place.max() + 1), np.asarray(cosines)
    order = np.argsort(cosines[~truth])
    negatives, owners = cosines[~truth][order], place[~truth][order]
    below = np.zeros((len(negatives) + 1, len(clips)))
    np.cumsum(owners[:, None] == clips, axis=0, out=below[1:])
    first, last = (np.searchsorted(negatives, cosines[truth], side=side) for side in ("left", "right"))
    mine = (clips[:, None] == place[truth]).astype(np.float64)
    return mine @ (below[first] + below[last]) / 2


def _losses(cosines: NDArray[Any], truth: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N,) the cross-entropy of each pair."""
    return bce_of_pairs(torch.from_numpy(np.array(cosines, np.float32)), torch.from_numpy(truth)).numpy()


def _wilson(share: float, error: float, pairs: int, quantile: float) -> tuple[float, float]:
    """The interval of Wilson (1927), for as many independent pairs as have this standard error.

    Clips never make more of them than there are pairs: near the ceiling, where few clips make all the errors, or none
    has shown one yet, the standard error alone would promise too much.
    """
    if math.isinf(error):
        return 0.0, 1.0
    independent = min(share * (1 - share) / error**2, pairs) if error > 0 else pairs
    extra = quantile**2 / independent
    middle = (share + extra / 2) / (1 + extra)
    half = math.sqrt(share * (1 - share) * extra + extra**2 / 4) / (1 + extra)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _within(
    value: float, error: float, pairs: int, quantile: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """The interval of a figure with bounds, which reaches further away from the nearer of them.

    It is symmetric in the logarithm of the odds, where figures near a bound are nearly normal; and of a figure at a
    bound, where nothing has been seen to vary, it is that of a share of so many pairs.
    """
    low, high = bounds
    place, spread = (value - low) / (high - low), error / (high - low)
    if 0 < place < 1 and spread > 0:
        odds, reach = math.log(place / (1 - place)), quantile * spread / (place * (1 - place))
        ends = tuple((1 + math.tanh((odds + side * reach) / 2)) / 2 for side in (-1, 1))
    elif spread > 0:
        ends = max(0.0, place - quantile * spread), min(1.0, place + quantile * spread)
    else:
        ends = _wilson(min(max(place, 0.0), 1.0), 0.0, pairs, quantile)
    return min(low + (high - low) * ends[0], value), max(low + (high - low) * ends[1], value)


def _require_same_pairs(a: tuple[Path, ScoredPairs], b: tuple[Path, ScoredPairs]) -> None:
    (first, one), (second, other) = a, b
    if one.pairs_hash != other.pairs_hash:
        lists = f"{first} ({one.pairs_hash[:12]}) and {second} ({other.pairs_hash[:12]})"
        raise DataError(
            f"{lists} are scores of different pair lists, which cannot be compared",
            reason="other_pairs",
            path=str(second),
            hint="judge both networks on one list: `orchestrator evaluate --pair-list`",
        )
