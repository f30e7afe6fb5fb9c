"""The few collective operations that the loop needs; with one worker they are free and need no process group."""

# W workers, B values of one rank

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from orchestrator.checkpoint import TrainState


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


def stack_over_ranks(values: Tensor) -> Tensor:
    """(...) of each rank, of one shape everywhere -> (W, ...), on every rank."""
    if not is_distributed():
        return values.unsqueeze(0)
    gathered = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, values.contiguous())
    return torch.stack(gathered)


def share_state(state: TrainState | None, device: torch.device) -> TrainState | None:
    """Give every rank the state of rank 0, so that one reader is enough for any number of workers.

    Args:
        state: the state on rank 0, or none; what the other ranks pass is not looked at.
        device: where this rank's process group can send tensors from.
    """
    if not is_distributed():
        return state
    sender = dist.get_rank() == 0
    parts = _tensors(state) if sender and state is not None else {}
    shapes = {place: (tuple(tensor.shape), tensor.dtype) for place, tensor in parts.items()}
    bare = replace(state, weights={}, optimizer=None, ema=None, rng=None) if sender and state is not None else None
    message: list[Any] = [bare, shapes]
    dist.broadcast_object_list(message, 0, device=device)
    bare, shapes = message
    received: dict[tuple[str, ...], Tensor] = {}
    for place, (shape, dtype) in shapes.items():
        tensor = parts[place].to(device) if sender else torch.empty(shape, dtype=dtype, device=device)
        dist.broadcast(tensor, 0)
        if not sender:
            received[place] = tensor.cpu()
    return state if sender or bare is None else _assembled(bare, received)


def _tensors(state: TrainState) -> dict[tuple[str, ...], Tensor]:
    """Every tensor that a run continues from, under its place in the state."""
    parts = {(part, name): tensor for part in _FLAT for name, tensor in (getattr(state, part) or {}).items()}
    moments = (state.optimizer or {}).items()
    return parts | {("optimizer", name, slot): tensor for name, slots in moments for slot, tensor in slots.items()}


def _assembled(bare: TrainState, tensors: dict[tuple[str, ...], Tensor]) -> TrainState:
    parts: dict[str, Any] = {}
    for (part, name, *slot), tensor in tensors.items():
        if slot:
            parts.setdefault(part, {}).setdefault(name, {})[slot[0]] = tensor
        else:
            parts.setdefault(part, {})[name] = tensor
    return replace(bare, **parts)


_FLAT = ("weights", "ema")
