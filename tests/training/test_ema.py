"""The average of the weights, and putting it into the net for a while."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orchestrator.training.ema import WeightAverage


def test_it_averages_exponentially_and_weights_come_back_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(model, decay=0.75)
    expected = {name: value.detach().clone() for name, value in model.named_parameters()}
    for _ in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update()
        for name, value in model.named_parameters():
            expected[name] = 0.75 * expected[name] + 0.25 * value.detach()
    for name, value in average.values.items():
        torch.testing.assert_close(value, expected[name])
    kept = {name: value.detach().clone() for name, value in model.named_parameters()}
    averaged = {name: value.clone() for name, value in average.values.items()}
    with pytest.raises(ZeroDivisionError), average.applied():
        assert all(torch.equal(value, averaged[name]) for name, value in model.named_parameters())
        raise ZeroDivisionError
    assert all(torch.equal(value, kept[name]) for name, value in model.named_parameters())
    assert all(torch.equal(value, averaged[name]) for name, value in average.values.items())


def test_it_goes_on_from_what_was_saved() -> None:
    model = nn.Linear(2, 2)
    first, second = WeightAverage(model, 0.9), WeightAverage(model, 0.9)
    with torch.no_grad():
        model.weight.add_(1)
    first.update()
    second.restore({**first.values, "running_mean": torch.zeros(3)})
    assert all(torch.equal(value, second.values[name]) for name, value in first.values.items())
