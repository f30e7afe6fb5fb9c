"""How much memory a worker needs, without any of it: the net is traced with tensors that have shapes and no values.

What is counted: weights; gradients, moments and the average of those that train; what the forward pass keeps for the
backward pass, by following every tensor that autograd saves, under the autocast of the device that is planned for
(there need not be one here); the copies that a checkpoint is written from. Not counted: what kernels borrow for a
moment, and fragments.
"""

# B samples

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from orchestrator.config.schema import RunConfig
from orchestrator.models import FAMILIES, SyncNet
from orchestrator.planning.sizes import checkpoint_bytes
from orchestrator.training.freezing import count_parameters, count_trained, freeze

_FLOAT = 4
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_TRACED = 2, 3
"""Batches that are traced; the rest is a straight line. Batch norm refuses one sample."""


@dataclass(frozen=True)
class Memory:
    """Bytes that one worker needs, by what they are for."""

    weights: int
    gradients: int
    moments: int
    average: int
    """The exponential average of the weights."""
    casts: int
    """Copies of the weights in half precision, and all else that does not grow with the batch."""
    per_sample: int
    """What the forward pass keeps of one sample."""
    micro_batch: int
    host: int
    """Copies on the host that a checkpoint is written from, on rank 0."""

    @property
    def activations(self) -> int:
        """What the forward pass keeps of one micro-batch."""
        return self.per_sample * self.micro_batch

    @property
    def total(self) -> int:
        """All on the device."""
        state = self.weights + self.gradients + self.moments + self.average
        return state + self.casts + self.activations

    def with_micro_batch(self, micro_batch: int) -> Memory:
        """The same with another micro-batch."""
        return Memory(**{**self.__dict__, "micro_batch": micro_batch})

    def parts(self) -> dict[str, int]:
        """The parts of `total` that are there at all, by name."""
        names = ("weights", "gradients", "moments", "average", "casts", "activations")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def estimate(config: RunConfig, micro_batch: int, workers: int, device_type: str) -> Memory:
    """What one worker will need.

    Args:
        config: the configuration.
        micro_batch: samples that go through the net at once.
        workers: data-parallel workers, over which FSDP spreads weights, gradients, moments and the average.
        device_type: `cuda` or `cpu`: what is planned for, whether or not it is here.
    """
    with FakeTensorMode(), torch.device(device_type):
        model = FAMILIES[config.model.name](config.model)
        freeze(model, config.optim.freeze)
        fixed, per_sample = _straight_line(model, config, device_type)
    parameters, trained = count_parameters(model), count_trained(model)
    sharded = config.scale.strategy == "fsdp" and workers > 1
    share, own = (-(-_FLOAT * count // workers) if sharded else _FLOAT * count for count in (parameters, trained))
    # a net in shards puts one block at a time together, with its gradients
    largest = max((count_parameters(block) + count_trained(block) for block in model.blocks()), default=0)
    return Memory(
        weights=share + (_FLOAT * largest if sharded else 0),
        gradients=own,
        moments=2 * own,
        average=own if config.train.ema_decay else 0,
        casts=fixed,
        per_sample=per_sample,
        micro_batch=micro_batch,
        # one copy may still be on its way to the storage when the next is taken
        host=checkpoint_bytes(parameters, trained, config) * (2 if config.checkpoint.asynchronous else 1),
    )


def _straight_line(model: SyncNet, config: RunConfig, device_type: str) -> tuple[int, int]:
    """(bytes that do not depend on the batch, bytes per sample)."""
    few, more = (_kept_bytes(model, config, device_type, batch) for batch in _TRACED)
    per_sample = (more - few) // (_TRACED[1] - _TRACED[0])
    return max(0, few - _TRACED[0] * per_sample), per_sample


def _kept_bytes(model: SyncNet, config: RunConfig, device_type: str, batch: int) -> int:
    """Bytes that the forward pass of a batch keeps at its peak."""
    shape, own = model.input_shape, {_identity(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    found = _Saved(own)
    # what was read is a picture of bytes, or latents of 16 bits; the float picture lives through the whole pass
    frames, audio = (torch.empty(batch, *part) for part in (shape.frames, shape.audio))
    with found.by_block(model.blocks()), _autocast(config.train.precision, device_type):
        embeddings = model(frames, audio)
    found.add([frames, audio, *embeddings])
    return found.total(recomputed=config.speed.gradient_checkpointing)


class _Saved:
    """The tensors that autograd keeps, each memory once, by the block that was computing."""

    def __init__(self, own: set[int]) -> None:
        self._own = own
        self._block = -1
        self._storages: dict[int, Any] = {}
        self._sizes: defaultdict[int, int] = defaultdict(int)
        self._inputs = 0

    @contextmanager
    def by_block(self, blocks: list[nn.Module]) -> Iterator[None]:
        """Count while the block of code runs."""
        hooks = []
        for number, block in enumerate(blocks):
            hooks.append(block.register_forward_pre_hook(self._entering(number)))
            hooks.append(block.register_forward_hook(self._left))
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._save, _as_it_is):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def add(self, tensors: list[Tensor]) -> None:
        """Count tensors that are alive for another reason."""
        for tensor in tensors:
            self._save(tensor)

    def total(self, *, recomputed: bool) -> int:
        """All that is kept; with recomputation the inputs of the blocks and what the largest block keeps."""
        inside = {block: size for block, size in self._sizes.items() if block >= 0}
        outside = self._sizes[-1]
        return outside + (self._inputs + max(inside.values(), default=0) if recomputed else sum(inside.values()))

    def _entering(self, number: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def enter(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._block = number
            self._inputs += sum(_bytes(part) for part in inputs if isinstance(part, Tensor))

        return enter

    def _left(self, *_: Any) -> None:
        self._block = -1

    def _save(self, tensor: Tensor) -> Tensor:
        identity = _identity(tensor)
        if identity not in self._own and identity not in self._storages:
            self._storages[identity] = tensor.untyped_storage()  # kept, so that its identity is not given again
            self._sizes[self._block] += _bytes(tensor)
        return tensor


@contextmanager
def _autocast(precision: str, device_type: str) -> Iterator[None]:
    """Autocast of a device that need not be here, which `torch.autocast` itself refuses."""
    if precision not in _HALF:
        yield
        return
    before = torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type)
    torch.set_autocast_enabled(device_type, True)
    torch.set_autocast_dtype(device_type, _HALF[precision])
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device_type, before[0])
        torch.set_autocast_dtype(device_type, before[1])


def _identity(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().nbytes())


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
