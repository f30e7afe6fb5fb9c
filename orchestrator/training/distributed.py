"""The few collective operations that the loop needs; with one worker they are free and need no process group."""

# B values of one rank

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


def is_distributed() -> bool:
    """Whether this process belongs to a process group of several workers."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """The elementwise sum over all ranks, on every rank."""
    if is_distributed():
        values = values.clone()
        dist.all_reduce(values)
    return values


def share_buffers(model: nn.Module) -> None:
    """Give every rank the buffers of rank 0: each one's batch norm has averaged over its own batches only."""
    if is_distributed():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def gather_in_order(values: Tensor, sizes: list[int]) -> Tensor:
    """Concatenate each rank's (B_r,) values in rank order, on every rank; `sizes[r]` is B_r."""
    if not is_distributed():
        return values
    padded = values.new_zeros(max(sizes))
    padded[: len(values)] = values
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])
