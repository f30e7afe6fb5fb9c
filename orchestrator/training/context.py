"""The loop's one window to the world, so that the same loop runs under Ray, in a test and in a benchmark.

Promise: nothing that passes here changes a number of the run. A checkpoint more or less, its moment, a poll and its
answer leave weights, samples and logged figures as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from orchestrator.checkpoint import TrainState


@dataclass(frozen=True)
class Request:
    """What the surroundings ask of the loop between two steps; the same on all ranks."""

    save: bool = False
    """Save a checkpoint now: the latest is old enough, this machine is announced to go, or the run is to stop."""
    stop: bool = False
    """Leave the loop after that."""


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
        """This run's own newest checkpoint that is whole and undamaged; none when it has saved none.

        Called on rank 0 only: the others receive the state from it.

        Raises:
            CheckpointError: there are checkpoints, and all of them are damaged.
        """
        ...

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model as it trains: itself, or wrapped for several workers."""
        ...

    def announce(self, facts: Mapping[str, object]) -> None:
        """Publish what was decided: the start, a verdict, the scores of a new best, why the run ended; plain values.

        Every rank calls it equally often; rank 0 is heard.
        """
        ...

    def report(self, metrics: Mapping[str, float]) -> None:
        """Publish the figures of one step, with `step` among them; never waits long.

        Every rank calls it equally often; rank 0 is heard.
        """
        ...

    def save(self, state: TrainState) -> None:
        """Have a checkpoint written. Rank 0 only.

        Args:
            state: host tensors that nobody changes until they are written.

        Raises:
            CheckpointError: the storage refused an earlier checkpoint for too long.
        """
        ...

    def poll(self, step: int) -> Request:
        """What is asked for now. Every rank calls it after every step; cheap while it is not yet time."""
        ...

    def alive(self) -> None:
        """Say that this worker makes progress; the loop calls it in what takes long between two polls."""
        ...

    def finish(self) -> None:
        """Wait until everything reported and saved is safe.

        Raises:
            OrchestratorError: what went wrong on the way.
        """
        ...
