"""The collective operations, on two real processes."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from orchestrator.checkpoint import Best, TrainState
from orchestrator.config import load_model_config
from orchestrator.training.distributed import (
    gather_in_order,
    share_buffers,
    share_state,
    stack_over_ranks,
    sum_over_ranks,
)
from tests.conftest import TINY_MODEL


def test_one_worker_needs_no_group() -> None:
    values = torch.arange(3.0)
    assert torch.equal(sum_over_ranks(values), values)
    assert torch.equal(gather_in_order(values, [3]), values)
    share_buffers(nn.BatchNorm1d(2))
    assert stack_over_ranks(values).shape == (1, 3)
    assert share_state(None, torch.device("cpu")) is None


def test_two_workers(tmp_path: Path) -> None:
    mp.spawn(_worker, args=(str(tmp_path / "rendezvous"),), nprocs=2)


def _worker(rank: int, rendezvous: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    assert sum_over_ranks(torch.tensor([1.0, rank])).tolist() == [2.0, 1.0]
    mine = torch.arange(3.0) if rank == 0 else torch.tensor([7.0, 8.0])
    assert gather_in_order(mine, [3, 2]).tolist() == [0.0, 1.0, 2.0, 7.0, 8.0]
    norm = nn.BatchNorm1d(2)
    norm(torch.full((4, 2), float(rank)))
    share_buffers(norm)
    assert norm.running_mean is not None and norm.running_mean.tolist() == [0.0, 0.0]
    assert stack_over_ranks(torch.tensor([1.0, rank])).tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert share_state(None, torch.device("cpu")) is None
    received = share_state(_state() if rank == 0 else None, torch.device("cpu"))
    assert received is not None and (received.step, received.best, received.history) == (7, Best("val/auc", 0.5, 3), [])
    assert received.optimizer is not None and received.ema is None
    assert torch.equal(received.weights["a"], torch.arange(4.0))
    assert torch.equal(received.optimizer["a"]["exp_avg"], torch.ones(4)) and received.optimizer["a"]["step"] == 7
    dist.destroy_process_group()


def _state() -> TrainState:
    moments = {"a": {"exp_avg": torch.ones(4), "step": torch.tensor(7.0)}}
    weights = {"a": torch.arange(4.0)}
    model = load_model_config(TINY_MODEL)
    return TrainState(model, weights, step=7, optimizer=moments, best=Best("val/auc", 0.5, 3))
