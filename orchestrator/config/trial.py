"""The configuration of one trial: that of its sweep with the settings of a point. Pure.

A point that changes `train.global_batch` changes how many samples a step has: the steps of the run, of its warm-up and
between its validations and checkpoints are scaled, so that all trials see equally many samples and are validated at
the same ones. Steps that are swept themselves are left as they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config.schema import RunConfig
from orchestrator.config.validation import validate, with_settings

BATCH = "train.global_batch"
INIT = "start.checkpoint"
"""The setting that sweeps over starting states."""
_IN_STEPS = ("train.steps", "optim.warmup_steps", "eval.every", "checkpoint.every", "checkpoint.keep_every")


def trial_config(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """The configuration of the trial at a point.

    Args:
        config: the sweep's.
        settings: the point: setting, or whole section, -> value.

    Raises:
        ConfigError: the point is impossible.
    """
    scaled = _scaled_steps(config, settings)
    return validate(with_settings(config, {"sweep": None, **scaled, **settings}))


def samples_of(config: RunConfig) -> int:
    """Samples that a run trains on from step 0 to its last step."""
    return config.train.steps * config.train.global_batch


def _scaled_steps(config: RunConfig, settings: Mapping[str, Any]) -> dict[str, int]:
    batch = settings.get(BATCH)
    if not isinstance(batch, int) or batch < 1 or batch == config.train.global_batch:
        return {}
    plain = {name: _lookup(config, name) for name in _IN_STEPS}
    return {name: max(1, round(steps * config.train.global_batch / batch)) for name, steps in plain.items() if steps}


def _lookup(config: RunConfig, dotted: str) -> int:
    section, key = dotted.split(".")
    value: int = getattr(getattr(config, section), key)
    return value
