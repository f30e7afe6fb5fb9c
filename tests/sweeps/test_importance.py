"""The setting that made the difference is found, whatever kind of values it has; nothing is claimed of too little."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.sweeps.importance import LEAST_TRIALS, importance
from orchestrator.sweeps.summary import Interval, TrialSummary

Settings = dict[str, Any]


def trials(count: int, value: Callable[[Settings], float], draw: Callable[[random.Random], Settings]) -> list[Any]:
    """A baseline, so many trials, and one that failed before it had a value."""
    rng = random.Random(7)
    rows = [TrialSummary("000", True, "a.pt", {}, "finished", best=Interval(9, 9, 9))]
    for index in range(count):
        settings = draw(rng)
        best = value(settings) + rng.gauss(0, 0.001)
        rows.append(TrialSummary(f"{index + 1:03d}", False, "", settings, "finished", best=Interval(best, best, best)))
    return [*rows, TrialSummary("999", False, "", draw(rng), "failed")]


def drawn(rng: random.Random) -> Settings:
    return {
        "optim.lr": 10 ** rng.uniform(-6, -3),
        "optim.clip": rng.choice([None, 1.0, 5.0]),
        "train.ema": rng.choice([True, False]),
        "data.augment": rng.choice([{"flip": True}, {"flip": False, "shift": [1, 2]}]),
        "train.seed": 1,
    }


@pytest.mark.parametrize(
    ("matters", "value"),
    [
        ("optim.lr", lambda s: -abs(math.log10(s["optim.lr"]) + 4.5)),
        ("optim.clip", lambda s: 0.1 * (s["optim.clip"] is None)),
        ("train.ema", lambda s: 0.1 * s["train.ema"]),
        ("data.augment", lambda s: 0.1 * s["data.augment"]["flip"]),
    ],
)
@pytest.mark.parametrize("metric", ["val/auc", "val/loss"])
def test_the_setting_that_matters_comes_first(matters: str, value: Callable[[Settings], float], metric: str) -> None:
    sign = -1 if metric == "val/loss" else 1
    found = importance(metric, trials(40, lambda s: sign * value(s), drawn))
    assert next(iter(found)) == matters
    assert found[matters] > 0.5
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert "train.seed" not in found


def test_a_setting_that_only_some_trials_have_can_matter() -> None:
    def conditional(rng: random.Random) -> Settings:
        name = rng.choice(["cosine", "nce"])
        extra = {"loss.temperature": rng.uniform(0, 1)} if name == "nce" else {}
        return {"loss.name": name, "optim.lr": rng.uniform(0, 1), **extra}

    found = importance("val/auc", trials(60, lambda s: -abs(s.get("loss.temperature", 0.0) - 0.9), conditional))
    assert next(iter(found)) == "loss.temperature"


def test_the_same_trials_give_the_same_shares() -> None:
    rows = trials(12, lambda s: s["optim.lr"], drawn)
    assert importance("val/auc", rows) == importance("val/auc", rows)


def test_nothing_is_claimed_of_too_little() -> None:
    assert importance("val/auc", []) == {}
    assert importance("val/auc", trials(LEAST_TRIALS - 1, lambda s: s["optim.lr"], drawn)) == {}
    assert importance("val/auc", trials(20, lambda s: 1.0, lambda rng: {"a": 1})) == {}
    same = [TrialSummary(str(i), False, "", {"a": i}, "finished", best=Interval(0.5, 0, 1)) for i in range(9)]
    assert importance("val/auc", same) == {}


def test_a_value_that_is_no_number_is_left_out() -> None:
    rows = trials(12, lambda s: s["optim.lr"], drawn)
    broken = TrialSummary("666", False, "", drawn(random.Random(1)), "failed", best=Interval(math.nan, 0, 1))
    assert importance("val/auc", [*rows, broken]) == importance("val/auc", rows)


def test_a_diverged_trial_does_not_decide_it() -> None:
    rows = trials(30, lambda s: 0.1 * s["train.ema"] - 99 * (s["optim.lr"] > 8e-4), drawn)
    assert any(row.best and row.best.value < -9 for row in rows)
    assert next(iter(importance("val/auc", rows))) == "train.ema"
