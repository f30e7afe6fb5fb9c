"""Copies in host memory: equal, in memory that is used again, and never changed while somebody holds them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orchestrator.training.host_copy import HostCopies


@pytest.fixture
def live() -> dict[str, Tensor]:
    return {
        "weight": torch.randn(7, 5, requires_grad=True),
        "strided": torch.randn(3, 4, 6).permute(2, 0, 1),
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "count": torch.tensor(3),
        "half": torch.randn(9).half(),
        "empty": torch.zeros(0, 4),
    }


def copies_on(device: str = "cpu") -> HostCopies:
    return HostCopies(torch.device(device))


def test_copies_are_equal_and_of_their_own(live: dict[str, Tensor]) -> None:
    taken = copies_on().take(live.items())
    for name, tensor in live.items():
        assert torch.equal(taken[name], tensor) and taken[name].dtype == tensor.dtype
        assert not taken[name].requires_grad and taken[name].is_contiguous()
    live["count"] += 1
    assert taken["count"] == 3


def test_a_copy_that_is_held_is_never_changed(live: dict[str, Tensor]) -> None:
    copies = copies_on()
    held = []
    for count in range(3):
        live["count"].fill_(count)
        held.append(copies.take(live.items()))
    assert [int(taken["count"]) for taken in held] == [0, 1, 2]


def test_one_tensor_is_enough_to_hold_it(live: dict[str, Tensor]) -> None:
    copies = copies_on()
    last = copies.take(live.items())["count"]
    live["count"].fill_(9)
    copies.take(live.items())
    assert last == 3


def test_memory_is_used_again_once_nobody_holds_it(live: dict[str, Tensor]) -> None:
    copies = copies_on()
    first = copies.take(live.items())
    second = copies.take(live.items())
    places = {taken["weight"].data_ptr() for taken in (first, second)}
    assert len(places) == 2
    del first
    third = copies.take(live.items())
    del second
    fourth = copies.take(live.items())
    assert {third["weight"].data_ptr(), fourth["weight"].data_ptr()} == places


def test_tensors_may_come_go_and_change_their_shape(live: dict[str, Tensor]) -> None:
    copies = copies_on()
    copies.take(live.items())
    assert copies.take({"count": torch.zeros(2)}.items())["count"].tolist() == [0, 0]
    assert copies.take({"count": torch.ones(2), "new": torch.ones(1)}.items()).keys() == {"count", "new"}


def test_each_is_copied_before_the_next_is_asked_for() -> None:
    """Where tensors are put together from shards, only one of them has room at a time."""
    one = torch.zeros(4)

    def each() -> object:
        for value in range(3):
            one.fill_(value)
            yield value, one

    assert [int(taken[0]) for taken in copies_on().take(each()).values()] == [0, 1, 2]  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_from_a_gpu_they_are_finished_and_pinned(live: dict[str, Tensor]) -> None:
    copies = copies_on("cuda")
    there = {name: tensor.detach().cuda() for name, tensor in live.items()}
    big = torch.zeros(64 << 20, device="cuda")
    for value in range(1, 4):
        big += 1
        taken = copies.take([*there.items(), ("big", big)])
        big += 1
        big -= 1
        assert bool((taken["big"] == value).all()) and taken["big"].is_pinned()
        assert all(torch.equal(taken[name], tensor.cpu()) for name, tensor in there.items())
