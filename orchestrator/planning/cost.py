"""What a run costs: how its batch is shared, the memory of a worker, and the time, as figures to show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from orchestrator.config.schema import RunConfig
from orchestrator.models.losses import build_loss
from orchestrator.planning.machine import device_here, free_memory, planned_device
from orchestrator.planning.memory import Memory, estimate
from orchestrator.planning.probe import Measured, TooSlow, measure
from orchestrator.training.batching import BatchPlan, check_batches, plan_batches
from orchestrator.training.freezing import net_to_train
from orchestrator.training.speed import CPU_MICRO_BATCH, largest_that_fits

_MARGIN = 0.9
"""Share of a GPU's memory to plan with."""


@dataclass(frozen=True)
class Cost:
    """Batch and memory of a run on its configured workers."""

    config: RunConfig
    batches: BatchPlan
    memory: Memory

    @classmethod
    def of(cls, config: RunConfig) -> Cost:
        """Share the batch, and trace the net for its memory.

        Raises:
            ConfigError: the batch cannot be shared so, or `optim.freeze` does not fit the net.
        """
        workers, device_type = max(1, config.scale.num_workers), planned_device(config.scale)
        memory = estimate(config, 1, workers, device_type)
        batches = shared_batch(config, workers, memory)
        check_batches(batches, net_to_train(config), config)
        return cls(config, batches, memory.with_micro_batch(batches.micro_batch))

    def batch_facts(self) -> dict[str, Any]:
        """How one optimizer step is shared out."""
        batches, workers = self.batches, self.batches.world_size
        even = batches.global_batch == workers * batches.accumulation * batches.micro_batch
        about = "=" if even else "in at most"
        return {
            "workers": self.config.scale.num_workers,
            "batch": f"{batches.global_batch} {about} {workers} x {batches.accumulation} x {batches.micro_batch}",
        }

    def memory_facts(self, notes: list[str]) -> dict[str, Any]:
        """Memory of a worker; adds a note where it will not fit this machine."""
        memory, device_type = self.memory, planned_device(self.config.scale)
        here = device_here(device_type)
        free = free_memory(here) if here.type == device_type else None
        if free is not None and memory.total > free:
            kind = "this GPU has" if here.type == "cuda" else "are free on this machine"
            notes.append(
                f"a worker needs about {_gb(memory.total)} GB, but {_gb(free)} GB {kind}: lower `train.micro_batch`, "
                "or set `speed.gradient_checkpointing=true` or `scale.strategy=fsdp`"
            )
        return {
            f"memory per worker on the {'GPU' if device_type == 'cuda' else 'CPU'} (GB)": _gb(memory.total),
            "of which (GB)": {name: _gb(size) for name, size in memory.parts().items()},
            "activations per sample (MB)": round(memory.per_sample / 1e6, 1),
            "host memory for checkpoints, rank 0 (GB)": _gb(memory.host),
        }

    def time_facts(self, steps: int, budget_s: float, notes: list[str]) -> dict[str, Any]:
        """Measured speed and the time that so many steps take; notes say what the figures rest on."""
        config, batches = self.config, self.batches
        planned, here = planned_device(config.scale), device_here(planned_device(config.scale))
        free = free_memory(here)
        if free is not None and self.memory.with_micro_batch(min(2, batches.micro_batch)).total > free:
            notes.append("nothing was measured: two samples with their net do not fit this machine")
            return {}
        try:
            measured = measure(config, batches.micro_batch, here, budget_s=budget_s)
        except TooSlow as slow:
            some = f"{slow.size} sample{'s' if slow.size > 1 else ''}"
            notes.append(
                f"nothing was measured: one pass of {some} would take about {slow.seconds:.0f} s on this machine"
            )
            return {}
        except torch.OutOfMemoryError:
            notes.append("nothing was measured: the net does not fit this GPU beside what is on it already")
            return {}
        notes += self._reservations(measured, planned, here)
        step_s, run_s = measured.step_s(batches), measured.run_s(config, batches, steps)
        facts = {
            "measured": f"{measured.micro_batch} samples at once on {measured.device}: {measured.pass_s:.3g} s forward "
            f"and backward, {measured.update_s:.3g} s update",
            "samples/s": round(batches.global_batch / step_s, 2),
            "seconds per step": round(step_s, 4),
            "steps to go": steps,
            "ETA": str(timedelta(seconds=round(run_s))),
            "ETA (s)": round(run_s, 1),
        }
        least = config.scale.min_workers
        if least is not None and least < batches.world_size:
            fewer = shared_batch(config, least, self.memory)
            text = str(timedelta(seconds=round(measured.run_s(config, fewer, steps))))
            facts[f"ETA with {least} worker{'s' if least > 1 else ''}"] = text
        return facts

    def _reservations(self, measured: Measured, planned: str, here: torch.device) -> list[str]:
        notes = []
        if planned != here.type:
            notes.append("the run asks for GPUs, but this machine has none: the measured speed is that of its CPU")
        if measured.micro_batch < self.batches.micro_batch:
            some = f"{measured.micro_batch} sample{'s' if measured.micro_batch > 1 else ''}"
            notes.append(
                f"measured with {some} at once, because {self.batches.micro_batch} take too "
                "long here; larger micro-batches are rather faster per sample"
            )
        if self.config.speed.compile:
            notes.append("measured without `speed.compile`, whose preparation takes longer than the probe")
        if self.batches.world_size > 1:
            notes.append(
                "the ETA takes every worker to be as fast as this machine is now, and leaves out the exchange of "
                "gradients (docs/scaling.md says what it costs) and waiting for data"
            )
        return notes


def shared_batch(config: RunConfig, workers: int, memory: Memory) -> BatchPlan:
    """How the global batch is shared; `train.micro_batch=auto` by the estimate of memory.

    Raises:
        ConfigError: it cannot be shared so.
    """
    unit, micro = build_loss(config.loss).unit, config.train.micro_batch
    if micro == "auto":
        share = max(-(-config.train.global_batch // unit // workers), 1) * unit
        micro = _likely_micro_batch(config, memory, share, unit)
    return plan_batches(config.train.global_batch, micro, workers, unit)


def _likely_micro_batch(config: RunConfig, memory: Memory, share: int, unit: int) -> int:
    device_type = planned_device(config.scale)
    here = device_here(device_type)
    if device_type == "cpu" or here.type != "cuda":
        return max(min(CPU_MICRO_BATCH, share) // unit, 1) * unit
    usable = _MARGIN * (free_memory(here) or 0)
    return largest_that_fits(lambda size: memory.with_micro_batch(size).total <= usable, share, unit) or unit


def _gb(size: int) -> float:
    return round(size / 1e9, 3 if size < 1e9 else 1)
