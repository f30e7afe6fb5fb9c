"""From the global batch to what one worker does. Pure arithmetic.

The global batch is the setting; everything else follows, so that a run means the same on 1 and on 64 workers. It need
not be a multiple of the workers: their shares differ by at most one unit, and every sample weighs the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from orchestrator.config.schema import RunConfig
from orchestrator.data.loader.shares import micro_batches_of, share_of
from orchestrator.errors import ConfigError


@dataclass(frozen=True)
class BatchPlan:
    """How one optimizer step is shared out."""

    global_batch: int
    """Samples per optimizer step over all workers."""
    world_size: int
    """Number of workers."""
    largest_micro: int
    """Most samples that go through the net at once."""
    unit: int = 1
    """Samples that must stay together, as the loss wants it."""

    def micro_batches(self, rank: int = 0) -> list[range]:
        """The micro-batches of a worker, as positions within the step."""
        return micro_batches_of(self.global_batch, rank, self.world_size, self.largest_micro, self.unit)

    @property
    def per_worker(self) -> int:
        """Samples of the worker with most per optimizer step."""
        return max(
            len(share_of(self.global_batch, rank, self.world_size, self.unit)) for rank in range(self.world_size)
        )

    @property
    def micro_batch(self) -> int:
        """Samples that really go through the net at once."""
        return max(len(part) for rank in range(self.world_size) for part in self.micro_batches(rank))

    @property
    def accumulation(self) -> int:
        """Forward and backward passes per optimizer step of the worker with most."""
        return max(len(self.micro_batches(rank)) for rank in range(self.world_size))


def plan_batches(global_batch: int, largest_micro: int, world_size: int, unit: int = 1) -> BatchPlan:
    """Share a global batch over `world_size` workers, in micro-batches of at most `largest_micro`.

    Raises:
        ConfigError: it is not made of whole units, or there is not one for each worker.
    """
    problems = []
    if global_batch % unit:
        problems.append(
            f"`train.global_batch` must be a multiple of {unit}, which the loss needs, but is {global_batch}"
        )
    if global_batch < world_size * unit:
        least = f"{unit} for each of the {world_size} workers"
        problems.append(f"`train.global_batch` must be at least {least}, but is {global_batch}")
    if largest_micro < unit:
        problems.append(f"`train.micro_batch` must be at least {unit}, which the loss needs, but is {largest_micro}")
    if problems:
        raise ConfigError(problems, hint="enlarge it, or use fewer workers")
    return BatchPlan(global_batch, world_size, largest_micro, unit)


def has_batch_norm(model: nn.Module) -> bool:
    """Whether what a sample gives depends on the other samples of its micro-batch, which must then have at least 2.

    Args:
        model: in training mode. Batch norm that is frozen stays in eval mode, and looks at no other sample.
    """
    return any(isinstance(module, _BatchNorm) and module.training for module in model.modules())


def check_batches(plan: BatchPlan, model: nn.Module, config: RunConfig) -> None:
    """Refuse what a net, or the way it is spread over workers, cannot compute.

    Raises:
        ConfigError: batch norm would see a single sample, or workers in shards would not go through the net equally
            often.
    """
    parts = [plan.micro_batches(rank) for rank in range(plan.world_size)]
    least, problems = min(len(part) for own in parts for part in own), []
    if least < 2 and has_batch_norm(model):
        problems.append(
            f"`train.micro_batch` must leave at least 2 samples in every micro-batch, because {config.model.name} has "
            f"batch norm, but {plan.global_batch} samples for {plan.world_size} workers leave 1"
        )
    if config.scale.strategy == "fsdp" and len(set(map(len, parts))) > 1:
        problems.append(
            f"`train.global_batch` must give all workers as many micro-batches, because `scale.strategy` is fsdp, but "
            f"{plan.global_batch} samples for {plan.world_size} workers do not"
        )
    if problems:
        raise ConfigError(
            problems, hint="take a global batch that is a multiple of the workers, or another micro-batch"
        )
