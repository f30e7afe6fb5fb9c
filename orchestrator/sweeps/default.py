"""The sweep of a configuration that has none: the settings that decide most when a pretrained SyncNet is trained on.

Why these: the learning rate decides whether the file gets better or is ruined, and the useful range spans two decades
around what the configuration has; weight decay and warm-up come next. Trials that lag behind are stopped.
"""

from __future__ import annotations

from typing import Any

from orchestrator.config.load import apply_settings
from orchestrator.config.schema import RunConfig

_DECADE = 10.0
DECAYS = (0.0, 0.01, 0.1)


def with_sweep(config: RunConfig, *, trials: int | None = None, hours: float | None = None) -> RunConfig:
    """The configuration with this budget, and with a default space where it has none.

    Args:
        config: with or without a `sweep` section; without one and without a budget it is left as it is.
        trials: how many trials, instead of what it says.
        hours: how many hours of wall time, instead of what it says.
    """
    budget = {"trials": trials, "hours": hours}
    given = {name: value for name, value in budget.items() if value is not None}
    if config.sweep is None:
        return apply_settings(config, {"sweep": {**_default(config), **given}}) if given else config
    return apply_settings(config, {f"sweep.{name}": value for name, value in given.items()})


def _default(config: RunConfig) -> dict[str, Any]:
    lr, steps = config.optim.lr, config.train.steps
    return {
        "search": "tpe",
        "scheduler": "asha",
        "space": {
            "optim.lr": {"loguniform": [lr / _DECADE, lr * _DECADE]},
            "optim.weight_decay": {"choice": sorted({*DECAYS, config.optim.weight_decay})},
            "optim.warmup_steps": {"choice": sorted({0, steps // 20, config.optim.warmup_steps})},
        },
    }
