"""Figures: each is what scikit-learn, or a plain loop, computes of the same pairs and clips."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
    roc_curve,
)

from orchestrator.evaluation.clips import WINDOWS_AVERAGED, ClipReport
from orchestrator.evaluation.figures import BINS, Figure, calibration_error, curves, offset_figures, pair_figures
from orchestrator.evaluation.offsets import ClipOffset

Made = tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.str_]]


def made_up(seed: int, speakers: int = 6, each: int = 12, power: float = 0.4) -> Made:
    """Cosines, labels and speakers; some cosines are equal, some below 0."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.array([1, 0], np.int8), speakers * each)
    cosines = (0.35 + power * labels + rng.normal(0, 0.35, len(labels))).round(2).clip(-1, 1)
    return cosines.astype(np.float32), labels, np.repeat([f"spk{n}" for n in range(speakers)], 2 * each)


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    assert len({figure.name for figure in figures}) == len(figures)
    return {figure.name: figure for figure in figures}


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_pairs_are_scikit_learns(seed: int) -> None:
    cosines, labels, speakers = made_up(seed)
    found = by_name(pair_figures(cosines, labels, speakers, 0.6))
    bounded = cosines.astype(np.float64).clip(0, 1)
    expected = {
        "accuracy": accuracy_score(labels, cosines > 0.5),
        "accuracy_at_best_threshold": accuracy_score(labels, cosines > 0.6),
        "auc": roc_auc_score(labels, cosines),
        "average_precision": average_precision_score(labels, cosines),
        "loss": log_loss(labels, cosines.astype(np.float64).clip(1e-6, 1 - 1e-6)),
        "brier": brier_score_loss(labels, bounded),
        "calibration_error": by_loops(bounded, labels),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # the loss of a pair that is surely wrong is a million to one in float32, give or take a few per cent
        assert found[name].value == pytest.approx(value, abs=1e-3 if name == "loss" else 2e-5), name
        assert found[name].low < found[name].value < found[name].high and found[name].definition
    chances = {name: figure.chance for name, figure in found.items()}
    assert chances["auc"] == chances["accuracy"] == chances["average_precision"] == 0.5
    assert chances["loss"] == pytest.approx(math.log(2)) and chances["brier"] == 0.25
    assert {name for name, figure in found.items() if not figure.higher_is_better} == {
        "loss",
        "brier",
        "calibration_error",
    }


def by_loops(predicted: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """The expected calibration error, bin by bin."""
    total = 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        inside = [
            place for place, value in enumerate(predicted) if low <= value < high or (number == BINS - 1 and value == 1)
        ]
        if inside:
            total += abs(float(np.mean(predicted[inside]) - np.mean(labels[inside]))) * len(inside)
    return total / len(predicted)


def test_chance_is_what_a_network_that_knows_nothing_gets() -> None:
    _, labels, speakers = made_up(0, speakers=8, each=60)
    cosines = np.random.default_rng(9).uniform(0.45, 0.55, len(labels)).astype(np.float32)
    for name, figure in by_name(pair_figures(cosines, labels, speakers, 0.5)).items():
        if figure.chance is not None:
            assert figure.value == pytest.approx(figure.chance, abs=0.06), name


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(0, 4)), min_size=1, max_size=40))
def test_calibration_error_weighs_pairs_as_if_they_were_repeated(rows: list[tuple[float, bool, int]]) -> None:
    predicted, truth, weights = (np.array(column) for column in zip(*rows, strict=True))
    if not weights.sum():
        return
    repeated = np.repeat(np.arange(len(rows)), weights)
    expected = calibration_error(predicted[repeated], truth[repeated], np.ones(len(repeated)))
    assert calibration_error(predicted, truth, weights.astype(np.float64)) == pytest.approx(expected, abs=1e-9)
    assert 0 <= expected <= 1


@pytest.mark.parametrize("seed", range(3))
def test_curves_are_scikit_learns(seed: int) -> None:
    cosines, labels, _ = made_up(seed, each=40)
    drawn = curves(cosines, labels)
    false, true, _ = roc_curve(labels, cosines)
    assert drawn.roc == (tuple(false), tuple(true))
    recall, precision = drawn.precision_recall
    assert all(one >= other for one, other in pairwise(recall)) and precision[-1] == 1
    shares, means = calibration_curve(labels, cosines.astype(np.float64).clip(0, 1), n_bins=BINS)
    # bins there are open on the other side, so only those without a value on their edge are the same
    ours = {round(mean, 6): share for mean, share, _ in drawn.calibration}
    same = [(mean, share) for mean, share in zip(means, shares, strict=True) if round(mean, 6) in ours]
    assert len(same) >= 3 and all(ours[round(mean, 6)] == pytest.approx(share) for mean, share in same)
    assert sum(count for _, _, count in drawn.calibration) == len(labels)
    assert (sum(drawn.in_sync), sum(drawn.out_of_sync)) == (int(labels.sum()), int((labels == 0).sum()))


def report(place: int, frames: float | None, hits: tuple[int, int, int, int] = (10, 4, 7, 9)) -> ClipReport:
    """A clip whose offset was found here, with a distance and a confidence of its own."""
    offset = None
    if frames is not None:
        offset = ClipOffset(frames, 0.5 + 0.1 * place, 0.8 - 0.05 * place, 1.0, 0.02, 0.1, False, 40, ())
    return ClipReport(place, 4.0, (), offset, (hits,) * len(WINDOWS_AVERAGED) if frames is not None else (), ())


def test_figures_of_offsets_are_sums_over_clips() -> None:
    found_at = [0.2, -1.4, None, 0.9, 3.0, -0.1]
    counts = [(10, 4, 7, 9), (6, 0, 2, 6), (0, 0, 0, 0), (20, 20, 20, 20), (3, 0, 0, 1), (8, 8, 8, 8)]
    reports = [report(place, *both) for place, both in enumerate(zip(found_at, counts, strict=True))]
    figures = by_name(offset_figures(reports, np.array(["a", "a", "b", "b", "c", "c"])))
    places = sum(count[0] for count in counts)
    for within in (0, 1, 2):
        figure = figures[f"offset_accuracy_10_within_{within}"]
        assert figure.value == pytest.approx(sum(count[1 + within] for count in counts) / places)
        assert figure.chance == pytest.approx((2 * within + 1) / 31)
    assert figures["clip_offset_accuracy_within_1"].value == pytest.approx(3 / 5)
    assert figures["clip_offset_accuracy_within_2"].value == pytest.approx(4 / 5)
    known = [place for place, frames in enumerate(found_at) if frames is not None]
    assert figures["lse_d"].value == pytest.approx(np.mean([0.8 - 0.05 * place for place in known]))
    assert figures["lse_c"].value == pytest.approx(np.mean([0.5 + 0.1 * place for place in known]))
    assert figures["lse_c"].chance == pytest.approx(0.1) and not figures["lse_d"].higher_is_better
    assert len([name for name in figures if name.startswith("offset_accuracy")]) == 3 * len(WINDOWS_AVERAGED)


def test_clips_too_short_for_offsets_have_no_figures_of_them() -> None:
    assert offset_figures([report(0, None), report(1, None)], np.array(["a", "b"])) == []
    nowhere = [report(place, 0.0, (0, 0, 0, 0)) for place in range(2)]
    assert not any(each.name.startswith("offset_accuracy") for each in offset_figures(nowhere, np.array(["a", "b"])))
