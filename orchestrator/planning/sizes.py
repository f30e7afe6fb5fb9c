"""How much a run takes: validations, checkpoints, disk. Pure arithmetic on a configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.config.schema import CheckpointConfig, RunConfig

_FLOAT = 4
"""Bytes of a weight, a gradient or a moment: all are kept in float32, whatever the precision of the passes is."""


@dataclass(frozen=True)
class DiskUse:
    """What a run's checkpoints take on disk."""

    one: int
    """Bytes of one checkpoint."""
    kept: int
    """Checkpoints at the end, at most."""

    @property
    def at_the_end(self) -> int:
        """Bytes that stay."""
        return self.one * self.kept

    @property
    def most(self) -> int:
        """Bytes while the last one is written: an older one goes only when the new one is safe."""
        return self.one * (self.kept + 1)


def checkpoint_bytes(parameters: int, trained: int, config: RunConfig) -> int:
    """Bytes of one checkpoint on disk; the documents beside the tensors are not counted.

    Args:
        parameters: of the net; where there is an average, it is kept of all of them.
        trained: those that are not frozen, which have two moments.
        config: the configuration.
    """
    return _FLOAT * ((1 + (config.train.ema_decay > 0)) * parameters + 2 * trained)


def disk_use(parameters: int, trained: int, config: RunConfig) -> DiskUse:
    """What the checkpoints of a run take, at most; arguments as of `checkpoint_bytes`."""
    return DiskUse(checkpoint_bytes(parameters, trained, config), kept_checkpoints(config.train.steps, config))


def kept_checkpoints(steps: int, config: RunConfig) -> int:
    """Checkpoints that are kept at the end, at most: the best, the last, and those kept for their step."""
    settings = config.checkpoint
    # those asked for by the clock or by a stop are not counted: retention removes them again
    return min(saves(steps, config), settings.keep + 1 + kept_for_their_step(steps, settings))


def kept_for_their_step(steps: int, settings: CheckpointConfig) -> int:
    """Checkpoints that `checkpoint.keep_every` keeps for ever, at most: step 0 is none of them."""
    return steps // settings.keep_every if settings.keep_every else 0


def saves(steps: int, config: RunConfig) -> int:
    """Checkpoints that are written by steps: of step 0, every so many, and with every validation."""
    every, validates = config.checkpoint.every, config.eval.every
    both = happenings(steps, math.lcm(every, validates))
    return happenings(steps, every) + happenings(steps, validates) - both + 1


def happenings(steps: int, every: int) -> int:
    """How often something happens in `steps` steps that happens every so many and after the last one."""
    return -(-steps // every)
