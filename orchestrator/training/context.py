"""The loop's one window to the world, so that the same loop runs under Ray, in a test and in a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from orchestrator.checkpoint import TrainState


class TrainContext(Protocol):
    """What the surroundings of the loop provide."""

    @property
    def rank(self) -> int:
        """This worker, in [0, world_size)."""
        ...

    @property
    def world_size(self) -> int:
        """Number of workers."""
        ...

    @property
    def device(self) -> torch.device:
        """Where this worker computes."""
        ...

    def latest(self) -> TrainState | None:
        """This run's own latest whole checkpoint; none when it has not saved one."""
        ...

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model as it trains: itself, or wrapped for data parallelism."""
        ...

    def report(self, metrics: Mapping[str, float], state: TrainState | None) -> None:
        """Publish figures, with `step` among them, and optionally a checkpoint.

        Every rank calls it equally often; only rank 0's state is kept (the others pass none).
        """
        ...

    def announce(self, facts: Mapping[str, object]) -> None:
        """Publish what was decided at the start: plain values. Every rank calls it once; rank 0 is heard."""
        ...
