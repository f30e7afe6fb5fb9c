"""Gains between networks: their values, what their intervals cover, and what they say where little is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import log_loss, roc_auc_score

from orchestrator.data.corpus import Corpus
from orchestrator.errors import DataError
from orchestrator.training.comparison import Metric, paired_gain, stored_gain, value_interval
from orchestrator.training.evaluation import PairList
from orchestrator.training.intervals import student_quantile
from orchestrator.training.metrics import pair_metrics

METRICS: tuple[Metric, ...] = ("val/accuracy", "val/auc", "val/loss")
Pairs = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


def made_up(rng: np.random.Generator, clips: int, windows: int, *, power: float = 1.0) -> Pairs:
    """Cosines of two networks, the second somewhat better, with labels and clips.

    A clip is easy or hard, and its cosines high or low: mostly for both networks, in part for each of its own.
    """
    labels = np.broadcast_to(np.array([1, 0]), (2, clips, windows, 2))
    easy = np.clip(1 + rng.normal(0, 0.3, (1, clips, 1, 1)) + rng.normal(0, 0.15, (2, clips, 1, 1)), 0, None)
    easy *= power * np.array([1, 1.25]).reshape(2, 1, 1, 1)
    shift = rng.normal(0, 0.5, (1, clips, 1, 1)) + rng.normal(0, 0.25, (2, clips, 1, 1))
    noise = rng.normal(0, 0.7, (1, clips, windows, 2)) + rng.normal(0, 0.5, labels.shape)
    cosines = (1 / (1 + np.exp(-(easy * (2 * labels - 1) + shift + noise)))).astype(np.float32).reshape(2, -1)
    return cosines[0], cosines[1], labels[0].ravel(), np.repeat(np.arange(clips), 2 * windows)


@pytest.fixture(scope="module")
def truth() -> dict[Metric, tuple[float, float]]:
    """The figure of the second network and its gain, over very many clips."""
    first, second, labels, _ = made_up(np.random.default_rng(0), 8000, 8)
    figures = [pair_metrics(torch.from_numpy(cosines), torch.from_numpy(labels.copy())) for cosines in (first, second)]
    found: dict[Metric, tuple[float, float]] = {}
    for metric in METRICS:
        one, other = (figure[metric.removeprefix("val/")] for figure in figures)
        found[metric] = other, one - other if metric == "val/loss" else other - one
    return found


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_cover_what_they_say(truth: dict[Metric, tuple[float, float]], metric: Metric) -> None:
    rng, runs, (value, gain) = np.random.default_rng(1), 500, truth[metric]
    covered = np.zeros(3)
    for _ in range(runs):
        first, second, labels, clips = made_up(rng, 40, 8)
        gains = [paired_gain(metric, first, second, labels, clips, level) for level in (0.95, 0.8)]
        of_value = value_interval(metric, second, labels, clips)
        covered += [low <= gain <= high for _, low, high in gains] + [of_value.low <= value <= of_value.high]
    assert 0.93 <= covered[0] / runs <= 0.97 and 0.75 <= covered[1] / runs <= 0.85
    assert 0.93 <= covered[2] / runs <= 0.97


def test_pairs_of_one_clip_are_not_taken_for_independent(truth: dict[Metric, tuple[float, float]]) -> None:
    rng, runs = np.random.default_rng(8), 200
    draws = [made_up(rng, 20, 24) for _ in range(runs)]
    ours, naive = 0, 0
    for first, second, labels, clips in draws:
        for place, owners in enumerate((clips, np.arange(len(labels)))):
            _, low, high = paired_gain("val/loss", first, second, labels, owners)
            inside = low <= truth["val/loss"][1] <= high
            ours, naive = ours + (inside and place == 0), naive + (inside and place == 1)
    assert ours / runs >= 0.93 and naive / runs < 0.85


def test_few_clips_are_not_taken_for_many(truth: dict[Metric, tuple[float, float]]) -> None:
    rng, runs = np.random.default_rng(2), 200
    for clips in (2, 5):
        draws = [made_up(rng, clips, 16) for _ in range(runs)]
        gains = [paired_gain("val/loss", *draw) for draw in draws]
        assert np.mean([low <= truth["val/loss"][1] <= high for _, low, high in gains]) >= 0.92


def test_near_the_ceiling_an_interval_does_not_vanish() -> None:
    rng = np.random.default_rng(3)
    true = roc_auc_score(*(made_up(rng, 4000, 8, power=2.5)[place] for place in (2, 1)))
    found = [value_interval("val/auc", *made_up(rng, 40, 8, power=2.5)[1:]) for _ in range(100)]
    assert np.mean([low <= true <= high for _, low, high in found]) >= 0.93


@pytest.mark.parametrize("metric", METRICS)
def test_values_are_those_of_a_validation(metric: Metric) -> None:
    first, second, labels, clips = made_up(np.random.default_rng(4), 7, 5)
    first = first.round(1)  # ties
    names = np.array([f"clip {(7 * clip) % 5}" for clip in clips])
    truths = {
        "val/accuracy": lambda cosines: ((cosines > 0.5) == labels).mean(),
        "val/auc": lambda cosines: roc_auc_score(labels, cosines),
        "val/loss": lambda cosines: log_loss(labels, cosines.astype(np.float64).clip(1e-6, 1 - 1e-6)),
    }
    one, other = (truths[metric](cosines) for cosines in (first, second))
    found = value_interval(metric, first, labels, names)
    assert found.value == pytest.approx(one, abs=1e-5) and 0 <= found.low < one < found.high
    gain = paired_gain(metric, first, second, labels, names)
    assert gain.value == pytest.approx((other - one) * (-1 if metric == "val/loss" else 1), abs=1e-5)
    back = paired_gain(metric, second, first, labels, names)
    assert back == pytest.approx((-gain.value, -gain.high, -gain.low))
    order = np.random.default_rng(5).permutation(len(labels))
    shuffled = paired_gain(metric, first[order], second[order], labels[order], names[order])
    assert shuffled == pytest.approx(gain), "the order of the pairs does not matter"


@pytest.mark.parametrize("metric", METRICS)
def test_what_little_is_known_says_so(metric: Metric) -> None:
    first, second, labels, clips = made_up(np.random.default_rng(6), 12, 4)
    largest = 13.8155 if metric == "val/loss" else 1.0
    assert paired_gain(metric, first, first.copy(), labels, clips) == (0, 0, 0)
    assert paired_gain(metric, first, second, labels, 0 * clips)[1:] == pytest.approx((-largest, largest))
    assert value_interval(metric, first, labels, 0 * clips)[1:] == pytest.approx((0, largest))
    wide, narrow = (paired_gain(metric, first, second, labels, clips, level) for level in (1 - 0.05 / 12, 0.95))
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high


def test_two_networks_that_are_always_right_are_not_surely_equal() -> None:
    labels, clips = np.tile([1, 0], 100), np.arange(200) // 10
    right = labels * 0.8 + 0.1
    for metric in METRICS[:2]:
        gain = paired_gain(metric, right, right * 0.9 + 0.05, labels, clips)
        assert gain.value == 0 and gain.low < 0 < gain.high and gain.high == -gain.low < 0.02
        assert value_interval(metric, right, labels, clips) == (1.0, pytest.approx(0.98, abs=0.01), 1.0)


def test_a_clip_with_one_kind_of_pairs_alone_is_no_hindrance() -> None:
    first, second, labels, _ = made_up(np.random.default_rng(7), 10, 4)
    clips = np.where(labels == 1, 0, 1 + np.arange(len(labels)) % 3)
    gain = paired_gain("val/auc", first, second, labels, clips)
    assert np.isfinite(gain).all() and gain.low < gain.value < gain.high


def test_students_quantile_is_scipys() -> None:
    for freedom in (1, 2, 5.5, 39, 1e4):
        for confidence in (0.5, 0.95, 1 - 0.05 / 12, 0.9999):
            expected = student.ppf((1 + confidence) / 2, freedom)
            assert student_quantile(confidence, freedom) == pytest.approx(expected, 1e-4)
    assert student_quantile(0.95, 0) == np.inf


def test_files_of_scores_are_compared_where_their_pairs_agree(tiny_corpus: Path, tmp_path: Path) -> None:
    from orchestrator.data.corpus.scores import write_scores

    def stored(name: str, count: int, seed: int) -> tuple[Path, PairList, Any]:
        pairs = PairList.of(Corpus.open(tiny_corpus), "val", 5, count)
        cosines = torch.rand(count, generator=torch.Generator().manual_seed(seed))
        write_scores(tmp_path / name, pairs.table(), pairs.scores(seed, cosines))
        return tmp_path / name, pairs, cosines.numpy()

    (a, pairs, cosines_a), (b, _, cosines_b), (c, _, _) = stored("a", 16, 1), stored("b", 16, 2), stored("c", 8, 3)
    labels, clips = (np.array([getattr(pair, name) for pair in pairs.pairs]) for name in ("label", "clip"))
    expected = paired_gain("val/auc", cosines_a, cosines_b, labels, clips, 0.9)
    assert stored_gain(a, b, "val/auc", 0.9) == pytest.approx(expected)
    with pytest.raises(DataError, match=r"a \(.* and .*c \(.* are scores of different pair lists") as caught:
        stored_gain(a, c, "val/auc")
    assert caught.value.reason == "other_pairs" and "--pair-list" in caught.value.hint
