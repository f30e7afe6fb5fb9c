"""The update with a gradient scaler, as fp16 has it: the same step, and a bad one is none. It works on a CPU too."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from orchestrator.config.schema import OptimConfig
from orchestrator.training.optimizer import apply_gradients, build_optimizer
from orchestrator.training.parallel import clip_and_check

SCALE = 1024.0


class Trainee:
    """A layer and what updates it."""

    def __init__(self, scaled: bool) -> None:
        torch.manual_seed(0)
        self.net = nn.Linear(3, 2)
        self.optimizer = build_optimizer(self.net, OptimConfig(lr=0.1))
        self.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, enabled=scaled)

    def step(self, size: float) -> float:
        """One step with gradients of a size; whether it was bad."""
        loss = (self.net(torch.arange(6.0).view(2, 3)) * size).sum()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        _, bad = clip_and_check(self.net.parameters(), 1.0)
        apply_gradients(self.optimizer, self.scaler, bad)
        return bad.item()

    def numbers(self) -> list[torch.Tensor]:
        """Weights, moments and step counters."""
        slots = [value for state in self.optimizer.state.values() for value in state.values()]
        return [value.detach().clone() for value in (*self.net.parameters(), *slots)]


def test_a_scaled_step_is_the_same_step() -> None:
    plain, scaled = Trainee(scaled=False), Trainee(scaled=True)
    for size in (1.0, -0.5, 2.0):
        assert plain.step(size) == scaled.step(size) == 0
    assert all(torch.equal(one, other) for one, other in zip(plain.numbers(), scaled.numbers(), strict=True))
    assert scaled.scaler.get_scale() == SCALE


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("size", [math.inf, math.nan, 1e25], ids=["inf", "nan", "a norm that overflows"])
def test_a_bad_step_is_none(size: float, scaled: bool) -> None:
    trainee = Trainee(scaled)
    trainee.step(1.0)
    before = trainee.numbers()
    assert trainee.step(size) == 1
    assert all(torch.equal(one, other) for one, other in zip(before, trainee.numbers(), strict=True))
    if scaled:
        assert trainee.scaler.get_scale() == (SCALE if math.isfinite(size) else SCALE / 2)
    assert trainee.step(1.0) == 0
    assert not all(torch.equal(one, other) for one, other in zip(before, trainee.numbers(), strict=True))
