"""What is wrong with a sweep before it starts: settings that cannot be swept, and values with which no point exists.

A value is refused when it is wrong by itself, or when no drawn point with it is a possible configuration; points that
are impossible together with others are left to the search, which draws again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from orchestrator.config.findings import did_you_mean, section_names, setting_names
from orchestrator.config.schema import RunConfig
from orchestrator.config.space import Point, draw, in_order, random_value
from orchestrator.config.sweep import Dimension, SweepConfig
from orchestrator.config.trial import BATCH, INIT, trial_config
from orchestrator.errors import ConfigError

_FIXED = {
    "sweep": "it is the sweep itself",
    "storage": "all trials live in their sweep's folder",
    "tracking": "all trials are recorded in one place",
    "scale": "it changes no figure",
    "speed": "it changes no figure",
    "eval": "all trials are judged alike",
    "checkpoint": "all trials are judged alike",
    "data.path": "all trials learn from one corpus",
    "data.cache": "it changes no figure",
    "data.loader_threads": "it changes no figure",
    "data.prefetch": "it changes no figure",
    "model": "all trials train one network, which the starting state decides",
    "start.verb": "all trials start alike",
    "train.micro_batch": "it changes no figure",
    "train.deterministic": "all trials are computed alike",
}
"""Settings and sections that cannot be swept, and why."""
_WHILE_RUNNING = ("optim.lr", "optim.weight_decay", "optim.grad_clip_norm", "data.", "loss.temperature", "loss.margin")
"""What population-based training may change between two steps of a run."""
_TRIES = 20


def space_problems(config: RunConfig) -> list[str]:
    """Every problem of the sweep of a configuration that is otherwise sound, one sentence each; none without one."""
    sweep = config.sweep
    if sweep is None:
        return []
    problems = [problem for name in sweep.space for problem in _name_problems(name, sweep)]
    try:
        in_order(sweep.space)
    except ValueError as error:
        problems.append(f"`sweep.space`: {error}")
    problems += _pace_problems(config, sweep)
    if problems:
        return problems
    base = config.model_copy(update={"sweep": None})
    return [problem for name in sweep.space for problem in _value_problems(name, base, sweep)]


def _name_problems(name: str, sweep: SweepConfig) -> Iterator[str]:
    known = [*setting_names(), *section_names()]
    if name not in known:
        yield f"`sweep.space` names `{name}`, which is not a setting{did_you_mean(name, known)}"
        return
    for fixed, why in _FIXED.items():
        if name == fixed or name.startswith(f"{fixed}."):
            yield f"`sweep.space` names `{name}`, which cannot be swept: {why}"
    if name in section_names() and sweep.space[name].range:
        yield f"`sweep.space.{name}` must be a choice or a grid of mappings, because it is a section"
    if sweep.scheduler == "pbt" and name != INIT and not name.startswith(_WHILE_RUNNING):
        yield f"`sweep.space` names `{name}`, which pbt cannot change while a trial runs"


def _pace_problems(config: RunConfig, sweep: SweepConfig) -> Iterator[str]:
    every = config.eval.every
    if sweep.interval_steps is not None and sweep.interval_steps % every:
        yield f"`sweep.interval_steps` must be a multiple of `eval.every` ({every}), but is {sweep.interval_steps}"
    if sweep.scheduler == "pbt" and (sweep.trials or 2) < 2:
        yield f"`sweep.trials` must be >= 2, because pbt needs a population, but is {sweep.trials}"


def _value_problems(name: str, base: RunConfig, sweep: SweepConfig) -> Iterator[str]:
    """Values of one setting with which no point is possible."""
    dimension = sweep.space[name]
    for number, value in enumerate(dimension.range or dimension.listed):
        why = _impossible(name, value, base, sweep.space, number)
        if why:
            yield f"`sweep.space.{name}` has the value {value!r}: {why}"


def _impossible(name: str, value: Any, base: RunConfig, space: Mapping[str, Dimension], number: int) -> str | None:
    """Why no point with this value is possible; none if one is."""
    why: str | None = None
    for attempt in range(_TRIES if len(space) > 1 else 1):
        point = {**_point_with(name, space, np.random.default_rng([number, attempt])), name: value}
        why = point_problem(base, point)
        if why is None:
            return None
    return why


def _point_with(name: str, space: Mapping[str, Dimension], rng: np.random.Generator) -> Point:
    """A point at which a setting applies."""
    needed = space[name].when or {}

    def choose(other: str, dimension: Dimension) -> Any:
        if other not in needed:
            return random_value(other, dimension, rng)
        return needed[other][0] if isinstance(needed[other], list) else needed[other]

    return draw(space, choose)


def point_problem(base: RunConfig, point: Mapping[str, Any]) -> str | None:
    """Why a point is no possible configuration; none if it is."""
    if BATCH in point and not isinstance(point[BATCH], int):
        return f"`{BATCH}` must be a whole number, but is {point[BATCH]!r}"
    try:
        trial_config(base, point)
    except ConfigError as error:
        return "; ".join(error.problems)
    return None
