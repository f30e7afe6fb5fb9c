"""The chance detector: what its intervals cover, which state a history is in, and what it believes to be the cause."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, ttest_ind

from orchestrator.config import load_model_config
from orchestrator.data.corpus import Corpus
from orchestrator.models import SyncNet, build_model
from orchestrator.training.causes import SHRUNK
from orchestrator.training.chance import SAME, LearningState, judge, step_sums, sums_to_figures
from orchestrator.training.evaluation import PairList, evaluate_pairs
from orchestrator.training.intervals import auc_interval
from orchestrator.training.metrics import pair_metrics

Row = dict[str, float]


def drawn(gap: float, pairs: int, seed: int, spread: float = 0.1) -> dict[str, float]:
    """The figures of pairs whose kinds are `gap` standard deviations apart."""
    random = np.random.default_rng(seed)
    cosines = random.normal(0.5, 0.1, pairs).clip(0, 1)
    labels = np.arange(pairs) % 2
    figures = pair_metrics(torch.from_numpy(cosines + 0.1 * gap * (labels - 0.5)), torch.from_numpy(labels))
    return {**figures, "spread_vision": spread, "spread_audio": spread}


def row(step: int, val: Mapping[str, float], /, samples_per_step: float = 64, **train: float) -> Row:
    figures = {f"val/{name}": value for name, value in val.items()} | {f"train/{name}": x for name, x in train.items()}
    return {"step": step, "samples": step * samples_per_step, **figures}


def test_the_gap_is_zero_at_chance_in_the_intervals_that_scipy_gives() -> None:
    random = np.random.default_rng(3)
    cosines, labels = random.uniform(0, 1, 40), np.arange(40) % 3 == 0
    figures = sums_to_figures(step_sums(torch.from_numpy(cosines), torch.from_numpy(labels)).tolist())
    expected = ttest_ind(cosines[labels], cosines[~labels], equal_var=False).confidence_interval(0.95)
    assert figures["gap_low"] == pytest.approx(expected.low, abs=1e-4)
    assert figures["gap_high"] == pytest.approx(expected.high, abs=1e-4)
    assert figures["accuracy"] == pytest.approx(((cosines > 0.5) == labels).mean())


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=40), st.integers(0, 40))
def test_sums_of_parts_are_the_sums_of_all(rows: list[tuple[float, bool]], cut: int) -> None:
    cosines, labels = torch.tensor([c for c, _ in rows]), torch.tensor([float(y) for _, y in rows])
    parts = step_sums(cosines[:cut], labels[:cut]) + step_sums(cosines[cut:], labels[cut:])
    assert parts.dtype == torch.float32 and parts.shape == (7,)
    assert parts.tolist() == pytest.approx(step_sums(cosines, labels).tolist(), abs=1e-5)
    assert all(math.isfinite(value) for value in sums_to_figures(parts.tolist()).values())


def test_a_cosine_that_is_no_number_is_left_out() -> None:
    cosines, labels = torch.tensor([0.9, math.nan, 0.2, math.inf]), torch.tensor([1.0, 1, 0, 0])
    assert torch.equal(step_sums(cosines, labels), step_sums(cosines[[0, 2]], labels[[0, 2]]))


def test_float32_keeps_the_gap_of_cosines_that_are_nearly_equal() -> None:
    cosines = 0.5 + 1e-4 * torch.randn(4096, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4096) % 2
    wide, narrow = (sums_to_figures(step_sums(c, labels).tolist()) for c in (cosines.double(), cosines))
    assert narrow["gap_low"] == pytest.approx(wide["gap_low"], rel=1e-2)


@pytest.mark.parametrize("seed", range(20))
def test_the_interval_of_the_area_leaves_out_chance_where_mann_and_whitney_do(seed: int) -> None:
    random = np.random.default_rng(seed)
    positives, negatives = random.normal(0.5 * (seed % 3), 1, 20 + seed), random.normal(0, 1, 30)
    test = mannwhitneyu(positives, negatives, use_continuity=False, method="asymptotic")
    low, high = auc_interval(test.statistic / len(positives) / 30, len(positives), 30)
    assert (low > 0.5 or high < 0.5) == (test.pvalue < 0.05)


def test_perfect_ranking_of_few_pairs_is_not_certain() -> None:
    low, high = auc_interval(1.0, 2, 2)
    assert low < 0.5 and high == 1.0
    assert auc_interval(1.0, 200, 200)[0] > 0.97
    assert auc_interval(0.0, 2, 2)[0] == 0.0


def test_without_a_validation_nothing_is_known() -> None:
    assert judge([]).state is judge([{"step": 10, "train/loss": 0.3}]).state is LearningState.AT_CHANCE


def test_looking_often_finds_no_luck() -> None:
    """400 runs at chance with 25 independent validations each: 5% may be taken for learning, at any time of theirs."""
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        draws = random.normal(0, 0.01, 25)
        rows = [row(k, {"gap": d, "gap_low": d - 0.0196, "gap_high": d + 0.0196}) for k, d in enumerate(draws)]
        wrong += any(judge(rows[: k + 1]).state is LearningState.LEARNING for k in range(25))
    assert wrong / 400 < 0.05


def test_one_lucky_validation_flips_nothing_and_one_weak_one_neither() -> None:
    chance = [row(step, drawn(0, 400, step)) for step in range(6)]
    lucky = drawn(0, 400, 6) | {"gap": 0.025, "gap_low": 0.003, "gap_high": 0.047, "auc_low": 0.51}
    assert judge([*chance, row(6, lucky)]).state is LearningState.AT_CHANCE
    learned = row(6, drawn(2, 400, 6))
    assert judge([*chance, learned]).state is LearningState.LEARNING
    assert judge([*chance, learned, row(7, lucky)]).state is LearningState.LEARNING
    assert judge([*chance, learned, chance[2]]).state is LearningState.AT_CHANCE


def test_worse_than_chance_is_not_learning() -> None:
    assert judge([row(0, drawn(-3, 400, 0))]).state is LearningState.AT_CHANCE


def test_collapse_names_the_tower_and_needs_pairs_that_are_not_told_apart() -> None:
    dead = drawn(0, 400, 0) | {"spread_audio": SAME / 10}
    verdict = judge([row(0, drawn(0, 400, 1)), row(100, dead, lr=1e-2)])
    assert verdict.state is LearningState.COLLAPSED and "all sounds" in verdict.why
    assert "optim.lr` (1.0e-02)" in verdict.causes[0]
    assert "starting file" in judge([row(0, dead)]).causes[0]
    assert judge([row(0, drawn(2, 400, 0) | {"spread_audio": SAME / 10})]).state is LearningState.LEARNING


def overfit(after: Sequence[float], train_gap: float = 0.5) -> list[Row]:
    """A run that ranks well (gaps in standard deviations), then as `after` says, while training stays well apart."""
    train = {"gap": train_gap, "gap_low": train_gap - 0.01, "gap_high": train_gap + 0.01}
    return [row(step, drawn(gap, 1000, 7), **train) for step, gap in enumerate([0, 1, 2, *after])]


def test_overfitting_is_training_ahead_and_validation_clearly_worse_three_times() -> None:
    verdict = judge(overfit([1.2, 1.1, 1.0]))
    assert verdict.state is LearningState.OVERFITTING
    assert "step 2" in verdict.why and "go on from step 2" in verdict.causes[0]
    for history in (
        overfit([1.2, 1.1]),  # not yet three
        overfit([1.2, 2.0, 1.0]),  # one as good as the best
        overfit([1.95, 1.96, 1.97]),  # a plateau
        overfit([1.2, 1.1, 1.0], train_gap=0.1),  # training is no better
    ):
        assert judge(history).state is LearningState.LEARNING


def test_learning_training_pairs_only_is_overfitting_too() -> None:
    """As seen on 128 samples: validation never rises above chance, and its loss soars."""
    worse = [drawn(0, 400, step) | {"loss_low": 1.1, "loss_high": 1.3, "auc": 0.4} for step in range(3)]
    learned = {"gap": 0.9, "gap_low": 0.88, "gap_high": 0.92}
    history = [row(0, drawn(0, 400, 9)), *(row(step + 1, val, **learned) for step, val in enumerate(worse))]
    assert judge(history).state is LearningState.OVERFITTING
    assert "too few speakers" in judge(history[:2]).causes[0]


@pytest.mark.parametrize(
    ("last", "cause"),
    [
        (row(90, drawn(0, 400, 5, spread=0.1 * SHRUNK / 2), lr=1e-3), "learning rate is too high: the spread"),
        (row(90, drawn(0, 400, 5), loss=0.9), "learning rate is too high: the training loss is 0.900"),
        (row(90, drawn(0, 400, 5), loss=0.693), "too few samples yet: 5,760"),
        (row(90, drawn(0, 400, 5), 1_000_000, loss=0.693), "sound and picture are offset"),
    ],
)
def test_the_first_cause_is_what_the_figures_speak_for(last: Row, cause: str) -> None:
    history = [row(step, drawn(0, 400, step), loss=0.6931) for step in range(3)]
    verdict = judge([*history, last])
    assert verdict.state is LearningState.AT_CHANCE
    assert cause in verdict.causes[0]


def test_other_causes() -> None:
    chance = [row(step, drawn(0, 400, step), batch, loss=0.7 - step / 1e3) for step, batch in enumerate([64] * 5)]
    assert "it learns, but slowly: the training loss fell from 0.6990 to 0.6960" in judge(chance).causes[0]
    assert any("128 and fewer" in cause for cause in judge(chance).causes)
    assert any("oscillates" in cause for cause in judge([chance[0], row(1, drawn(0, 400, 1), 512)]).causes)
    assert not any("batch" in cause for cause in judge([chance[0], row(1, drawn(0, 400, 1), 1024)]).causes)
    lost = judge([row(0, drawn(2, 400, 0)), row(50, drawn(2, 400, 1)), row(90, drawn(0, 400, 2))])
    assert "until step 50 and has lost it" in lost.causes[0]
    assert any("prepared otherwise" in cause for cause in judge(chance[:1]).causes)


WAV2LIP = {"name": "wav2lip_syncnet"}


@pytest.mark.parametrize("name", ["tiny", "wav2lip"])
def test_a_fresh_net_is_at_chance_and_not_collapsed(name: str, tiny_corpus: Path, tiny_model_config: Any) -> None:
    model = build_model(tiny_model_config if name == "tiny" else load_model_config(WAV2LIP))
    figures = evaluated(model, tiny_corpus, 64 if name == "tiny" else 16)
    assert min(figures["spread_vision"], figures["spread_audio"]) > 10 * SAME
    assert judge([row(0, figures)]).state is LearningState.AT_CHANCE


@pytest.mark.parametrize("answer", [0.0, 1.0], ids=["dead units", "constants"])
def test_a_net_whose_last_layer_gives_constants_has_collapsed(
    answer: float, tiny_corpus: Path, tiny_model_config: Any
) -> None:
    model = build_model(tiny_model_config)
    norm = model.get_submodule("visual_encoder.norm_out")
    torch.nn.init.zeros_(norm.weight)  # type: ignore[arg-type]
    torch.nn.init.constant_(norm.bias, answer)  # type: ignore[arg-type]
    verdict = judge([row(0, evaluated(model, tiny_corpus, 16))])
    assert verdict.state is LearningState.COLLAPSED and "all pictures" in verdict.why


def evaluated(model: SyncNet, folder: Path, pairs: int) -> dict[str, float]:
    fixed = PairList.of(Corpus.open(folder), "val", model.config.num_frames, pairs)
    return evaluate_pairs(model, fixed, 32).metrics
