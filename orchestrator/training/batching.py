"""From the global batch to what one worker does. Pure arithmetic.

The global batch is the setting; everything else follows, so that a run means the same on 1 and on 64 workers.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import ConfigError


@dataclass(frozen=True)
class BatchPlan:
    """How one optimizer step is shared out."""

    global_batch: int
    per_worker: int
    """Samples of one worker per optimizer step."""
    micro_batch: int
    """Samples that go through the net at once."""

    @property
    def accumulation(self) -> int:
        """Forward and backward passes per optimizer step."""
        return self.per_worker // self.micro_batch


def plan_batches(global_batch: int, largest_micro: int, world_size: int) -> BatchPlan:
    """Share a global batch over `world_size` workers in equal micro-batches of at most `largest_micro`.

    Raises:
        ConfigError: the global batch is not a multiple of the number of workers.
    """
    if global_batch % world_size:
        problem = f"`train.global_batch` must be a multiple of the {world_size} workers, but is {global_batch}"
        raise ConfigError([problem], hint=f"the nearest above is {-(-global_batch // world_size) * world_size}")
    per_worker = global_batch // world_size
    micro = max(size for size in range(1, min(largest_micro, per_worker) + 1) if per_worker % size == 0)
    return BatchPlan(global_batch, per_worker, micro)
