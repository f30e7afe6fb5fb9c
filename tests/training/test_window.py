"""The figures between two log lines: the same whenever a part of them was put aside, and whoever computed them."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from orchestrator.training.chance import step_sums
from orchestrator.training.optimizer import Buffers
from orchestrator.training.window import Window, bad_in_a_row, step_row


def a_step(seed: int, *, bad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    cosines, labels = torch.rand(6, generator=generator), torch.tensor([1.0, 0, 1, 0, 1, 0])
    loss = torch.tensor(float("nan")) if bad else torch.rand((), generator=generator)
    norm = torch.tensor(float("inf")) if bad else torch.rand((), generator=generator)
    return step_row(loss, norm, torch.tensor(float(bad)), step_sums(cosines, labels))


@given(st.integers(0, 9))
def test_a_part_that_was_put_aside_changes_nothing(put_aside_after: int) -> None:
    whole, first = Window(), Window()
    for seed in range(10):
        whole.add(a_step(seed))
    for seed in range(put_aside_after):
        first.add(a_step(seed))
    first.settle()
    second = Window(json.loads(json.dumps(first.rows)))
    for seed in range(put_aside_after, 10):
        second.add(a_step(seed))
    whole.settle()
    second.settle()
    assert second.flush() == whole.flush()


def test_skipped_steps_are_in_no_average() -> None:
    window, calm = Window(), Window()
    for seed in range(4):
        window.add(a_step(seed))
        calm.add(a_step(seed))
        window.add(a_step(seed, bad=True))
    rows = window.settle()
    calm.settle()
    assert [row[2] for row in rows] == [0, 1, 0, 1, 0, 1, 0, 1]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert window.flush() == calm.flush()


def test_a_window_of_skipped_steps_has_no_figures() -> None:
    window = Window()
    assert window.settle() == [] and window.flush() == {}
    window.add(a_step(0, bad=True))
    window.settle()
    assert window.flush() == {} and window.rows == []


def test_skips_in_a_row_are_counted_across_windows() -> None:
    window = Window()
    for bad in (True, True, False, True):
        window.add(a_step(1, bad=bad))
    assert bad_in_a_row(window.settle(), before=3) == [4, 5, 0, 1]
    assert bad_in_a_row([], before=3) == []


def test_a_bad_step_leaves_running_averages_as_they_were() -> None:
    net = nn.BatchNorm1d(2)
    buffers = Buffers(net)
    for bad, batch in ((0.0, torch.randn(4, 2)), (1.0, torch.full((4, 2), float("nan")))):
        before = [buffer.clone() for buffer in net.buffers()]
        buffers.keep()
        net(batch)
        buffers.undo(torch.tensor(bad))
        assert bool(bad) == all(torch.equal(now, then) for now, then in zip(net.buffers(), before, strict=True))


def test_figures_are_those_of_the_pairs() -> None:
    cosines, labels = torch.tensor([0.9, 0.2, 0.4, 0.1]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    window = Window()
    window.add(step_row(torch.tensor(0.5), torch.tensor(2.0), torch.tensor(0.0), step_sums(cosines, labels)))
    window.add(step_row(torch.tensor(0.7), torch.tensor(4.0), torch.tensor(0.0), step_sums(cosines, labels)))
    window.settle()
    figures = window.flush()
    assert figures["loss"] == pytest.approx(0.6) and figures["grad_norm"] == 3.0
    assert figures["accuracy"] == 0.75 and figures["gap"] == pytest.approx(0.65 - 0.15)
