"""What a space means: which points it has, and how one is drawn. Pure functions of the space and of numbers.

A point is a mapping of the swept settings to their values; a setting whose `when` does not hold is not in it.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from orchestrator.config.findings import is_whole_number
from orchestrator.config.sweep import Dimension, SweepConfig

Space = Mapping[str, Dimension]
Point = dict[str, Any]

DEFAULT_TRIALS = 8


def in_order(space: Space) -> list[str]:
    """The settings with those that others depend on before these.

    Raises:
        ValueError: they depend on each other in a circle, or on a setting that is not swept.
    """
    done: list[str] = []
    left = list(space)
    while left:
        free = [name for name in left if all(other in done for other in space[name].when or {})]
        if not free:
            raise ValueError(f"`when` of {', '.join(left)} names settings that are not swept, or that wait for these")
        done += free
        left = [name for name in left if name not in free]
    return done


def draw(space: Space, choose: Callable[[str, Dimension], Any]) -> Point:
    """A point whose values `choose` gives, asked only for what applies."""
    point: Point = {}
    for name in in_order(space):
        if space[name].applies(point):
            point[name] = choose(name, space[name])
    return point


def random_value(name: str, dimension: Dimension, rng: np.random.Generator) -> Any:
    """One value of a setting."""
    if dimension.listed:
        return dimension.listed[int(rng.integers(len(dimension.listed)))]
    low, high = dimension.range or (0.0, 1.0)
    if dimension.loguniform:
        return fitting(name, math.exp(rng.uniform(math.log(low), math.log(high))))
    whole = is_whole_number(name)
    return int(rng.integers(round(low), round(high), endpoint=True)) if whole else float(rng.uniform(low, high))


def fitting(name: str, value: float) -> float | int:
    """A number as the setting takes it: whole where it must be."""
    return round(value) if is_whole_number(name) else value


def grid_points(space: Space) -> list[Point]:
    """Every combination of the listed values, each once."""
    points = {json.dumps(point, sort_keys=True, default=str): point for point in _combinations(space)}
    return list(points.values())


def grid_part(space: Space) -> list[Point]:
    """Every combination of those settings that are grids; one empty point where there are none."""
    return grid_points({name: dimension for name, dimension in space.items() if dimension.grid})


def trial_count(sweep: SweepConfig, possible: int | None = None) -> int:
    """Trials in all.

    Args:
        sweep: the sweep.
        possible: points of the search grid that are possible; none takes all of them for possible.
    """
    if sweep.search == "grid":
        points = len(grid_points(sweep.space)) if possible is None else possible
        return min(points, sweep.trials or points)
    return (sweep.trials or DEFAULT_TRIALS) * len(grid_part(sweep.space))


def _combinations(space: Space) -> Iterator[Point]:
    names = in_order(space)
    for values in itertools.product(*(space[name].listed for name in names)):
        wanted = dict(zip(names, values, strict=True))
        yield draw(space, lambda name, _, wanted=wanted: wanted[name])  # type: ignore[misc]
