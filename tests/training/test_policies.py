"""The pure parts of training: where it starts, how batches are shared, the rate, the figures, what is kept."""

from __future__ import annotations

import math
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score
from torch import nn

from orchestrator.checkpoint import Best, TrainState
from orchestrator.config import RunConfig, apply_settings
from orchestrator.config.schema import OptimConfig, StartConfig
from orchestrator.errors import ConfigError, RunError
from orchestrator.models import cosine_bce
from orchestrator.training.batching import check_batches, plan_batches
from orchestrator.training.evaluation import _shares
from orchestrator.training.metrics import best_threshold, pair_metrics
from orchestrator.training.precision import gradient_scaler
from orchestrator.training.retention import stale
from orchestrator.training.schedule import learning_rate
from orchestrator.training.start import StartVerb, decide_start


@pytest.fixture
def state(tiny_model_config: Any) -> TrainState:
    moments = {"w": {"exp_avg": torch.ones(1), "exp_avg_sq": torch.ones(1), "step": torch.tensor(5.0)}}
    best = Best("val/accuracy", 0.9, 5)
    return TrainState(
        tiny_model_config, {"w": torch.ones(1)}, step=5, samples=40, optimizer=moments, best=best, progress={"a": 1}
    )


def test_own_checkpoint_comes_before_everything(state: TrainState) -> None:
    decision, chosen = decide_start(state, None, StartConfig(checkpoint="x.pt", verb="resume"))
    assert (decision.verb, chosen, decision.step, decision.samples) == (StartVerb.CONTINUE, state, 5, 40)


def test_init_takes_the_weights_alone(state: TrainState) -> None:
    decision, chosen = decide_start(None, state, StartConfig(checkpoint="x.pt"))
    assert chosen is not None and chosen.weights is state.weights
    assert (chosen.step, chosen.samples, chosen.optimizer, chosen.best, chosen.progress) == (0, 0, None, None, {})
    assert str(decision) == "init from x.pt: step 0, sample 0, optimizer fresh"


def test_resume_takes_everything(state: TrainState) -> None:
    decision, chosen = decide_start(None, state, StartConfig(checkpoint="x.pt", verb="resume"))
    assert chosen is not None and (chosen.step, chosen.samples, chosen.optimizer) == (5, 40, state.optimizer)
    assert (chosen.best, decision.optimizer) == (None, "restored")


def test_fork_keeps_step_and_position(state: TrainState) -> None:
    decision, chosen = decide_start(None, state, StartConfig(checkpoint="x.pt", verb="fork"))
    assert chosen is not None and (chosen.step, chosen.samples, chosen.optimizer, chosen.best) == (5, 40, None, None)
    assert decision.to_dict()["verb"] == "fork"


def test_scratch_has_no_state() -> None:
    decision, chosen = decide_start(None, None, StartConfig())
    assert (decision.verb, chosen) == (StartVerb.SCRATCH, None)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 8), st.sampled_from([1, 2, 4]))
def test_batches_are_shared_exactly(units: int, largest: int, world: int, unit: int) -> None:
    plan = plan_batches((units + world) * unit, largest + unit, world, unit)
    parts = [part for rank in range(world) for part in plan.micro_batches(rank)]
    assert [place for part in parts for place in part] == list(range(plan.global_batch))
    assert plan.micro_batch == max(map(len, parts)) <= largest + unit
    assert plan.accumulation == max(len(plan.micro_batches(rank)) for rank in range(world))


def test_a_batch_that_leaves_a_worker_without_a_sample_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 for each of the 9 workers, but is 8"):
        plan_batches(8, 4, 9)
    with pytest.raises(
        ConfigError, match=r"multiple of 4, which the loss needs, but is 6[\s\S]*`train.micro_batch` must"
    ):
        plan_batches(6, 2, 1, unit=4)


def test_batches_that_a_net_or_its_shards_cannot_compute_are_refused(tiny_config: RunConfig) -> None:
    norm, plain = nn.Sequential(nn.BatchNorm2d(2)), nn.Linear(1, 1)
    sharded = apply_settings(tiny_config, {"scale.strategy": "fsdp"})
    with pytest.raises(ConfigError, match="at least 2 samples in every micro-batch"):
        check_batches(plan_batches(5, 2, 2), norm, tiny_config)
    check_batches(plan_batches(5, 2, 2), plain, sharded)
    with pytest.raises(ConfigError, match=r"all workers as many micro-batches, because `scale.strategy` is fsdp"):
        check_batches(plan_batches(5, 1, 2), plain, sharded)
    check_batches(plan_batches(5, 1, 2), plain, tiny_config)


def test_warm_up_then_cosine() -> None:
    optim = OptimConfig(lr=1.0, warmup_steps=4, schedule="cosine", min_lr_ratio=0.1)
    rates = [learning_rate(step, 20, optim) for step in range(21)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0 and math.isclose(rates[20], 0.1)
    assert all(later <= earlier for earlier, later in pairwise(rates[3:]))
    assert learning_rate(7, 20, OptimConfig(lr=0.3)) == 0.3
    assert learning_rate(0, 0, OptimConfig(lr=0.3, schedule="cosine")) == 0.3


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=2, max_size=60))
def test_figures_agree_with_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    rows = [*rows, (0.25, True), (0.75, False)]
    cosines, labels = np.array([c for c, _ in rows], np.float32), np.array([y for _, y in rows])
    figures = pair_metrics(torch.from_numpy(cosines), torch.from_numpy(labels).float())
    assert figures["auc"] == pytest.approx(roc_auc_score(labels, cosines), abs=1e-6)
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, cosines > 0.5))
    candidates = [*cosines, cosines.min() - 1]
    best = max(accuracy_score(labels, cosines > threshold) for threshold in candidates)
    threshold, accuracy = best_threshold(torch.from_numpy(cosines), torch.from_numpy(labels))
    assert accuracy == pytest.approx(best)
    assert accuracy_score(labels, cosines.astype(np.float64) > threshold) == pytest.approx(best)


def test_embeddings_that_are_no_numbers_are_named() -> None:
    with pytest.raises(RunError, match="not finite numbers"):
        pair_metrics(torch.tensor([0.5, float("nan")]), torch.tensor([1.0, 0.0]))


def test_the_loss_is_finite_where_the_cosine_leaves_its_range() -> None:
    unit = torch.nn.functional.normalize(torch.rand(64, 2048), dim=1)
    assert torch.isfinite(cosine_bce(unit * (1 + 1e-6), unit, torch.ones(64)))
    assert torch.isfinite(cosine_bce(unit, -unit, torch.ones(64)))
    zero = torch.zeros(4, 8, requires_grad=True)
    cosine_bce(zero, zero, torch.tensor([0.0, 1, 0, 1])).backward()
    assert zero.grad is not None and torch.isfinite(zero.grad).all()


@given(st.integers(0, 100), st.integers(1, 9))
def test_validation_is_shared_without_gaps(count: int, world: int) -> None:
    shares = [list(range(count))[part] for part in _shares(count, world)]
    assert list(chain.from_iterable(shares)) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_best_and_the_last_are_kept() -> None:
    saved = [Path(f"step-{step}") for step in range(5)]
    scores = dict(zip(saved, [0.5, 0.9, None, 0.9, None], strict=True))
    assert stale(saved, scores, keep=1) == [saved[0], saved[2], saved[3]]  # on a tie the earlier stays
    assert stale(saved, scores, keep=2) == [saved[0], saved[2]]
    assert stale(saved[:1], scores, keep=1) == []


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        gradient_scaler("fp16", torch.device("cpu"))
