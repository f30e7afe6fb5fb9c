"""Intervals by speaker hold the truth as often as they say, in simulations of speakers who differ.

`python -m tests.evaluation.test_coverage` makes the long form of it and prints a table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from orchestrator.training.comparison import Estimate, ratio_interval, statistic_interval, value_interval

Floats = NDArray[np.float64]
CLIPS, WINDOWS = 4, 6


@dataclass(frozen=True)
class Drawn:
    """Clips of speakers, and pairs of windows of them."""

    speakers: NDArray[np.int64]
    """(C,) of each clip."""
    places: NDArray[np.int64]
    """(C,) at which an offset was looked for: clips have different lengths."""
    right: NDArray[np.int64]
    """(C,) at which it was found."""
    depth: Floats
    """(C,) a value of each clip."""
    cosines: NDArray[np.float32]
    """(N,) of pairs."""
    labels: NDArray[np.int8]
    owners: NDArray[np.int64]
    """(N,) the speaker of each pair."""


def draw(rng: np.random.Generator, speakers: int, level: float = 1.0) -> Drawn:
    """Speakers are easy or hard, and their clips more or less so; at a higher level all are easier."""
    who = np.repeat(np.arange(speakers), CLIPS)
    ease = np.repeat(rng.normal(0, 0.7, speakers), CLIPS) + rng.normal(0, 0.5, speakers * CLIPS)
    places = rng.integers(5, 40, len(who))
    right = rng.binomial(places, 1 / (1 + np.exp(-level - ease)))
    labels = np.tile(np.array([1, 0], np.int8), len(who) * WINDOWS)
    of_pair = np.repeat(np.arange(len(who)), 2 * WINDOWS)
    shift = np.repeat(rng.normal(0, 0.3, speakers), CLIPS)[of_pair]
    raw = (level + 0.4 * ease[of_pair]) * (2 * labels - 1) + shift + rng.normal(0, 1, len(labels))
    cosines = (1 / (1 + np.exp(-raw))).astype(np.float32)
    return Drawn(who, places, right, 2 + ease + rng.normal(0, 0.3, len(who)), cosines, labels, who[of_pair])


def brier(drawn: Drawn) -> Callable[[Floats], float]:
    squares = np.square(drawn.cosines.astype(np.float64) - drawn.labels)
    return lambda weights: float(weights @ squares / weights.sum())


def precision(drawn: Drawn) -> Callable[[Floats], float]:
    """Average precision of weighted pairs, by its definition: the mean precision at each positive."""
    order = np.argsort(-drawn.cosines)
    truth = drawn.labels[order].astype(np.float64)

    def of(weights: Floats) -> float:
        ours = weights[order]
        hits = np.cumsum(ours * truth)
        return float((ours * truth * hits / np.maximum(np.cumsum(ours), 1e-12)).sum() / hits[-1])

    return of


KINDS: dict[str, Callable[[Drawn], Estimate]] = {
    "ratio, a share": lambda d: ratio_interval(d.right, d.places, d.speakers, share=True),
    "ratio, a mean": lambda d: ratio_interval(d.depth, np.ones(len(d.depth)), d.speakers, share=False),
    "statistic, Brier": lambda d: statistic_interval(brier(d), d.owners, (0.0, 1.0)),
    "statistic, average precision": lambda d: statistic_interval(precision(d), d.owners, (0.0, 1.0)),
    "value, accuracy": lambda d: value_interval("val/accuracy", d.cosines, d.labels, d.owners),
    "value, AUC": lambda d: value_interval("val/auc", d.cosines, d.labels, d.owners),
    "value, loss": lambda d: value_interval("val/loss", d.cosines, d.labels, d.owners),
}


def truth(level: float = 1.0) -> dict[str, float]:
    """Each figure over very many speakers; the AUC of groups of them, since it is made of pairs of speakers."""
    drawn = draw(np.random.default_rng(0), 20_000, level)
    parts = [draw(np.random.default_rng(seed), 1000, level) for seed in range(1, 9)]
    auc = float(np.mean([value_interval("val/auc", p.cosines, p.labels, 0 * p.owners).value for p in parts]))
    loss = value_interval("val/loss", drawn.cosines, drawn.labels, 0 * drawn.owners).value
    return {
        "ratio, a share": drawn.right.sum() / drawn.places.sum(),
        "ratio, a mean": drawn.depth.mean(),
        "statistic, Brier": brier(drawn)(np.ones(len(drawn.labels))),
        "statistic, average precision": precision(drawn)(np.ones(len(drawn.labels))),
        "value, accuracy": float(((drawn.cosines > 0.5) == drawn.labels).mean()),
        "value, AUC": auc,
        "value, loss": loss,
    }


def coverage(speakers: int, runs: int, level: float = 1.0, seed: int = 1) -> dict[str, float]:
    """How often each interval holds the truth."""
    rng, true = np.random.default_rng(seed), truth(level)
    inside = dict.fromkeys(KINDS, 0)
    for _ in range(runs):
        drawn = draw(rng, speakers, level)
        for kind, interval in KINDS.items():
            found = interval(drawn)
            inside[kind] += found.low <= true[kind] <= found.high
    return {kind: count / runs for kind, count in inside.items()}


@pytest.mark.parametrize("speakers", [8, 20])
def test_intervals_by_speaker_cover_what_they_say(speakers: int) -> None:
    """Of 100 intervals at 95% at least 87: fewer would be luck in one of a thousand."""
    runs = 100
    least = binom.ppf(0.001, runs, 0.95) / runs
    assert {kind: share for kind, share in coverage(speakers, runs).items() if share < least} == {}


@pytest.mark.slow
@pytest.mark.parametrize("speakers", [8, 20, 40])
@pytest.mark.parametrize(("level", "most"), [(1.0, 0.985), (3.0, 1.0)])
def test_over_many_runs_too(speakers: int, level: float, most: float) -> None:
    """A share may be off by 3 points, since intervals are approximations; near the ceiling it may be higher."""
    for kind, share in coverage(speakers, 600, level).items():
        assert 0.915 <= share <= most, (kind, share)


def test_clips_of_a_speaker_are_not_independent() -> None:
    """The same intervals with clips drawn anew instead of speakers would promise too much."""
    rng, true, inside = np.random.default_rng(2), truth()["ratio, a mean"], 0
    for _ in range(200):
        drawn = draw(rng, 20)
        found = ratio_interval(drawn.depth, np.ones(len(drawn.depth)), np.arange(len(drawn.depth)), share=False)
        inside += found.low <= true <= found.high
    assert inside / 200 < 0.88


def test_the_edges_of_what_is_known() -> None:
    ones = np.ones(4)
    assert ratio_interval(ones, ones, np.zeros(4), share=True)[1:] == (0.0, 1.0), "one speaker knows nothing"
    assert statistic_interval(lambda weights: 0.5, np.zeros(4), (0.0, 1.0)) == (0.5, 0.0, 1.0)
    all_right = ratio_interval(ones * 7, ones * 7, np.arange(4), share=True)
    assert all_right.value == all_right.high == 1.0 and 0 < all_right.low < 0.9, "four clips cannot promise all"
    sure = statistic_interval(lambda weights: 1.0, np.arange(40), (0.0, 1.0))
    assert sure.high == 1.0 and 0.85 < sure.low < 1.0, "nothing varied, and yet it is not certain"
    edge = statistic_interval(lambda weights: 5.0 if weights.max() == 1 else weights[0], np.arange(9), (-5.0, 5.0))
    assert edge.value == edge.high == 5.0 and edge.low < 4.0, "at a bound by luck"
    some = ratio_interval(np.array([3, 0, 5]), np.array([6, 0, 5]), np.array(["a", "b", "c"]), share=True)
    assert some.value == pytest.approx(8 / 11) and 0 <= some.low < some.value < some.high <= 1


if __name__ == "__main__":
    for count in (8, 20, 40):
        for ease in (1.0, 3.0):
            shares = {kind: round(float(share), 3) for kind, share in coverage(count, 500, ease).items()}
            print(count, ease, shares, flush=True)
