"""The same mathematics, computed faster or in less memory, as `speed.*` and `train.*` ask for it.

Promises: names of parameters and buffers stay, and no figure changes by more than rounding. What cannot be had here is
told and left out, the same on all workers. What is chosen depends on the configuration and the device only, so that a
run that is continued computes as before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.models import SyncNet
from orchestrator.models.losses import build_loss
from orchestrator.training.batching import has_batch_norm, plan_batches
from orchestrator.training.distributed import is_distributed, sum_over_ranks
from orchestrator.training.freezing import trained
from orchestrator.training.host_memory import keep_freed_memory
from orchestrator.training.rehearsal import rehearse

CPU_MICRO_BATCH = 32
"""What `train.micro_batch=auto` means on a CPU, where memory is not what limits it: larger ones are no faster."""
_MARGIN = 0.9
"""Share of a GPU's memory to plan with; the rest is for fragments, exchanged gradients and validation."""
_COMPILED_VARIANTS = 1024
"""Blocks share their code, and each wants a variant of its own for every shape: torch gives up after 8."""


def optimise_model(model: SyncNet, config: RunConfig, device: torch.device, tell: Callable[[str], None]) -> None:
    """Make a model compute as configured, in place; before it is wrapped and before its optimizer is made.

    Args:
        model: in training mode, on `device`.
        config: the checked configuration.
        device: where this worker computes.
        tell: receives a sentence about everything that could not be had.
    """
    _choose_algorithms(config, device)
    if _wants_channels_last(config, device, tell):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's signature
    recompute = config.speed.gradient_checkpointing
    _dress(model, compiled=config.speed.compile, recomputed=recompute)
    if config.speed.compile:
        problem = _compile_problem(model, config, device)
        if problem is not None:
            _dress(model, compiled=False, recomputed=recompute)
            tell(f"`speed.compile`: the network cannot be compiled here and trains as it is: {problem}")


def find_micro_batch(model: SyncNet, config: RunConfig, device: torch.device, world_size: int) -> int:
    """The largest micro-batch for `train.micro_batch=auto`: the same on all workers, at most one worker's share.

    On a GPU it is found by trying: powers of two (times the loss's unit) until the memory is full, with room left for
    the optimizer. On a CPU it is 32.

    Args:
        model: as `optimise_model` left it, not wrapped yet, in training mode.
        config: the checked configuration.
        device: where this worker computes.
        world_size: number of workers; each must call this.

    Raises:
        ConfigError: not even the smallest fits.
    """
    unit = build_loss(config.loss).unit
    least = max(unit, 2) if has_batch_norm(model) else unit
    share = max(-(-config.train.global_batch // unit // world_size), 1) * unit
    if device.type != "cuda" or share < least:
        return max(min(CPU_MICRO_BATCH, share) // unit, 1) * unit
    largest = _smallest_over_ranks(largest_that_fits(partial(_fits, model, config, device), share, least), device)
    if not largest:
        raise ConfigError(
            [f"not even a micro-batch of {least} fits {torch.cuda.get_device_name(device)}"],
            hint="set `speed.gradient_checkpointing=true`, `train.precision=bf16` or `scale.strategy=fsdp`",
        )
    return largest


def largest_that_fits(fits: Callable[[int], bool], most: int, unit: int = 1) -> int:
    """The largest of unit, 2 unit, 4 unit, ... and `most` that fits; 0 when the first does not.

    Args:
        fits: asked in increasing order, until it says no.
        most: the last one asked for, a multiple of `unit`.
    """
    largest, size = 0, min(unit, most)
    while size > largest and fits(size):
        largest, size = size, min(2 * size, most)
    return largest


def _choose_algorithms(config: RunConfig, device: torch.device) -> None:
    """Deterministic ones, or the fastest; on a CPU all are deterministic, and what takes time is fresh memory."""
    if device.type != "cuda":
        keep_freed_memory()
        return
    exact = config.train.deterministic
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA's matrix products are first used
    torch.use_deterministic_algorithms(exact)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a waste of time
    torch.backends.cudnn.deterministic = exact
    torch.backends.cudnn.benchmark = not exact


def _wants_channels_last(config: RunConfig, device: torch.device, tell: Callable[[str], None]) -> bool:
    wanted, sharded = config.speed.channels_last, config.scale.strategy == "fsdp" and is_distributed()
    if wanted == "auto":
        return device.type == "cuda" and config.train.precision != "fp32" and not sharded
    if wanted and sharded:
        tell("`speed.channels_last`: nets in shards (`scale.strategy=fsdp`) keep the usual memory layout")
    return wanted and not sharded


def _dress(model: SyncNet, *, compiled: bool, recomputed: bool) -> None:
    """Let each block run compiled, and again in the backward pass, without changing its class or its names."""
    for block in model.blocks():
        vars(block).pop("forward", None)
        forward: Callable[..., Any] = block.forward
        if compiled:
            # one program for every shape that occurs, so that it does not matter which came first
            forward = torch.compile(forward, dynamic=False)
        if recomputed:
            forward = partial(checkpoint, forward, use_reentrant=False, context_fn=partial(_contexts, block))
        if compiled or recomputed:
            block.forward = forward  # type: ignore[method-assign]


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first computation of a block and the second."""
    return nullcontext(), _without_running_averages(block)


@contextmanager
def _without_running_averages(block: nn.Module) -> Iterator[None]:
    """Batch norm has counted this batch already: a second time would change the running averages."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # not `track_running_stats`: the second computation must save as many tensors as the first
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count


def _compile_problem(model: SyncNet, config: RunConfig, device: torch.device) -> str | None:
    """Why the compiled net does not run; none where it does, on all workers."""
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = _COMPILED_VARIANTS
    problem = None
    try:
        rehearse(model, config, device, _likely_micro_batch(config))
    except Exception as error:  # compilers fail in many ways, and none of them is a reason not to train
        problem = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if sum_over_ranks(torch.tensor(float(problem is not None), device=device)) == 0:
        return None
    return problem or "it failed on another worker"


def _likely_micro_batch(config: RunConfig) -> int:
    """The size that training will use most, so that it is compiled only once; 2 where memory is yet to decide."""
    if config.train.micro_batch == "auto":
        return 2
    world_size, unit = dist.get_world_size() if is_distributed() else 1, build_loss(config.loss).unit
    return plan_batches(config.train.global_batch, config.train.micro_batch, world_size, unit).micro_batch


def _fits(model: SyncNet, config: RunConfig, device: torch.device, size: int) -> bool:
    """Whether a micro-batch of this size fits a GPU, with all that training will need besides."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    free, _ = torch.cuda.mem_get_info(device)
    usable = _MARGIN * (free + torch.cuda.memory_reserved(device))
    try:
        with torch.compiler.set_stance("force_eager"):  # compiling for each size that is tried would take minutes
            rehearse(model, config, device, size)
    except torch.OutOfMemoryError:
        return False
    finally:
        used = torch.cuda.max_memory_allocated(device)
        torch.cuda.empty_cache()
    return used + _to_come(model, config) <= usable


def _to_come(model: nn.Module, config: RunConfig) -> int:
    """Bytes that training adds to a forward and backward pass: two moments, DDP's buckets, the average of weights."""
    copies = 2 + is_distributed() + (config.train.ema_decay > 0)
    return copies * sum(parameter.numel() * parameter.element_size() for parameter in trained(model))


def _smallest_over_ranks(value: int, device: torch.device) -> int:
    if not is_distributed():
        return value
    shared: Tensor = torch.tensor(value, device=device)
    dist.all_reduce(shared, dist.ReduceOp.MIN)
    return int(shared)
