"""Population-based training (Jaderberg et al. 2017) as a pure function: who goes on as a copy of whom, and with what.

Why not Ray's: its scheduler draws from Python's global random numbers and cannot be built again after a crash. Here a
round is a function of (seed, round, scores, points), so that a sweep that was killed goes on with the same copies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.config.schema import RunConfig
from orchestrator.config.space import Point, fitting, random_value
from orchestrator.config.space_checks import point_problem
from orchestrator.config.sweep import Dimension, SweepConfig
from orchestrator.config.trial import INIT

FACTORS = (0.8, 1.25)
"""What a number of a copied point is multiplied by: one or the other."""
ANEW = 0.25
"""The probability that a setting of a copied point is drawn anew instead."""
_TRIES = 20
_STREAM = 1_000_003
"""Keeps these draws apart from those of the first points."""


@dataclass(frozen=True)
class Member:
    """A trial of the population at the end of a round."""

    trial: str
    score: float
    """Of its latest validation, higher is better."""
    point: Point


@dataclass(frozen=True)
class Copy:
    """That a trial goes on from the checkpoint of another one, at a new point."""

    trial: str
    donor: str
    point: Point


def next_round(config: RunConfig, members: Sequence[Member], number: int) -> list[Copy]:
    """Who is replaced before the next round; the others go on as they are.

    Args:
        config: of the sweep.
        members: those that have reached the end of the round.
        number: of the round, from 1.
    """
    sweep = config.sweep
    assert sweep is not None
    ranked = sorted(members, key=lambda member: (-member.score, member.trial))
    count = min(math.ceil(len(ranked) * sweep.quantile), len(ranked) // 2)
    copies = []
    for place, loser in enumerate(ranked[len(ranked) - count :]):
        rng = np.random.default_rng([sweep.seed, _STREAM, number, place])
        donor = ranked[int(rng.integers(count))]
        if donor.score > loser.score:
            copies.append(Copy(loser.trial, donor.trial, _explored(config, sweep, donor.point, rng)))
    return copies


def _explored(config: RunConfig, sweep: SweepConfig, point: Point, rng: np.random.Generator) -> Point:
    """A possible point near another one; that one itself where none is found."""
    base = config.model_copy(update={"sweep": None})
    for _ in range(_TRIES):
        changed = {name: _changed(name, sweep.space[name], value, rng) for name, value in point.items()}
        if point_problem(base, changed) is None:
            return changed
    return dict(point)


def _changed(name: str, way: Dimension, value: Any, rng: np.random.Generator) -> Any:
    if name == INIT:  # the weights come from the donor
        return value
    if rng.random() < ANEW:
        return random_value(name, way, rng)
    up = int(rng.integers(2))
    if way.range is None:
        place = list(way.listed).index(value) + (1 if up else -1)
        return way.listed[min(max(place, 0), len(way.listed) - 1)]
    low, high = way.range
    return fitting(name, min(max(value * FACTORS[up], low), high))
