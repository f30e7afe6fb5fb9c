"""Many workers on one net: DDP, where each holds all of it, and FSDP2, where each holds its share.

Promises: with one worker nothing is wrapped and nothing is exchanged. Names of parameters never change, so that a
checkpoint does not tell which of the two wrote it. A run that is continued exchanges gradients exactly as one that
never stopped (see `warm_up`). Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from orchestrator.config.schema import RunConfig
from orchestrator.models import SyncNet
from orchestrator.training.distributed import is_distributed
from orchestrator.training.rehearsal import rehearse

_PASSES_UNTIL_SETTLED = 2
"""Backward passes after which DDP exchanges gradients in the order that it then keeps: with a static graph the first
counts how often each parameter is used, the second notes the order in which their gradients are ready."""


def wrap(model: SyncNet, config: RunConfig, device: torch.device) -> nn.Module:
    """The model as it trains: itself for one worker, else under DDP or, with `scale.strategy=fsdp`, in shards.

    Under FSDP2 the model is changed in place and returned: its parameters become `DTensor`s. Every worker must have
    loaded the same weights before.
    """
    if not is_distributed():
        return model
    if config.scale.strategy == "fsdp":
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        for block in model.blocks():
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        # each worker's batch norm averages for itself, and only rank 0's averages are ever read (`share_buffers`):
        # sending those before every forward pass would change nothing
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        static_graph=True,
    )


def warm_up(wrapped: nn.Module, config: RunConfig, device: torch.device) -> None:
    """Let DDP settle before the first step, on every start, with passes that leave no trace.

    DDP sums the gradients in buckets, and puts the buckets together anew once it has seen in which order gradients
    become ready. How a sum over three or more workers is rounded depends on its place in the bucket: without this, the
    first steps after every start would be rounded otherwise than the same steps of a run that did not stop.
    Accumulation needs it too: a static graph cannot begin with a pass that exchanges nothing.
    """
    if isinstance(wrapped, DistributedDataParallel):
        rehearse(wrapped, config, device, batch=2, times=_PASSES_UNTIL_SETTLED)


def gradients_shared(wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Around a forward and backward pass: the workers exchange gradients only after the last micro-batch of a step."""
    if isinstance(wrapped, FSDPModule):
        wrapped.set_requires_gradient_sync(last)
    if last or not isinstance(wrapped, DistributedDataParallel):
        return nullcontext()
    return wrapped.no_sync()


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """While the block runs, every worker holds the whole net and may use it as often as it likes, without the others.

    For validation, where workers have different numbers of batches: a pass through a net in shards needs all of them.
    Every worker must enter it; without shards it does nothing.
    """
    shards = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for shard in shards:
        shard.set_reshard_after_forward(False, recurse=False)
        shard.unshard()
    try:
        yield
    finally:
        for shard in shards:
            # the outermost part is needed again at once in the backward pass, so FSDP2 keeps it by default
            shard.set_reshard_after_forward(shard is not model, recurse=False)
            shard.reshard()


def clip_and_check(parameters: Iterable[nn.Parameter], max_norm: float | None) -> tuple[Tensor, Tensor]:
    """Clip the global gradient norm in place.

    Args:
        parameters: all of the net, in shards or not; on every worker.
        max_norm: none clips nothing.

    Returns:
        The norm before clipping and whether it is no finite number (1.0 or 0.0): float32 scalars on the device.
    """
    parameters = list(parameters)
    norm = whole(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    if max_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm, (~norm.isfinite()).float()


def whole(tensor: Tensor) -> Tensor:
    """A tensor in shards put together on every worker, which all must ask for; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy of a whole value, laid out like a parameter: on its device, in its type, memory format and shards.

    Args:
        value: the same on every worker.
        parameter: of the same shape.
    """
    value = value.to(parameter.device, parameter.dtype)
    if isinstance(parameter, DTensor):
        # every worker has the value already: each takes its part, and nothing is sent
        return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
