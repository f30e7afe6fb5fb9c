"""Which point a sweep tries next: a pure function of the sweep, the trial's number and what is known of the others.

Why pure: a search whose memory is the sweep's own ledger forgets nothing when its process is killed, and a trial that
was drawn and not yet written down is drawn again as it was. Points that are no possible configuration are drawn again.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.config.schema import RunConfig
from orchestrator.config.space import Point, draw, fitting, grid_part, grid_points, random_value, trial_count
from orchestrator.config.space_checks import point_problem
from orchestrator.config.sweep import Dimension, SweepConfig
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    import optuna

_TRIES = 100
_MOST_RANDOM = 10
"""Trials that tpe draws at random before it has something to go by; a third of few trials."""


@dataclass(frozen=True)
class Known:
    """What a search knows of a trial."""

    point: Point
    score: float | None
    """Its best value, turned so that higher is better; none before there is one."""
    ended: bool
    """Whether it will not get any better."""


def propose(config: RunConfig, number: int, known: Sequence[Known]) -> Point:
    """The point of a trial.

    Args:
        config: of the sweep.
        number: how many were drawn before, baselines not counted.
        known: what is known of these.

    Raises:
        ConfigError: no possible point was found.
    """
    sweep = config.sweep
    assert sweep is not None
    if sweep.search == "grid":
        return possible_points(config)[number]
    parts = grid_part(sweep.space)
    part = parts[number % len(parts)]
    trials = sweep.trials or len(known)
    guided = sweep.search == "tpe" and len(known) >= min(_MOST_RANDOM, max(3, trials // 3))
    return _possible(config, number, part, _Guided(sweep, known) if guided else None)


def possible_points(config: RunConfig) -> list[Point]:
    """The points of a search grid that are possible configurations, in order."""
    assert config.sweep is not None
    base = config.model_copy(update={"sweep": None})
    return [point for point in grid_points(config.sweep.space) if point_problem(base, point) is None]


def total_trials(config: RunConfig) -> int:
    """Trials in all, the untouched starting states not counted."""
    assert config.sweep is not None
    return trial_count(config.sweep, len(possible_points(config)) if config.sweep.search == "grid" else None)


def _possible(config: RunConfig, number: int, part: Point, guided: _Guided | None) -> Point:
    sweep = config.sweep
    assert sweep is not None
    base = config.model_copy(update={"sweep": None})
    problem: str | None = None
    for attempt in range(_TRIES):
        seed = [sweep.seed, number, attempt]
        point = guided.point(seed, part) if guided is not None else _random(sweep, seed, part)
        problem = point_problem(base, point)
        if problem is None:
            return point
    raise ConfigError(
        [f"`sweep.space` has hardly any possible point: {_TRIES} draws gave none; the last: {problem}"],
        hint="narrow the ranges, or make one setting depend on another with `when`",
    )


def _random(sweep: SweepConfig, seed: list[int], part: Point) -> Point:
    rng = np.random.default_rng(seed)
    return draw(sweep.space, lambda name, way: part[name] if name in part else random_value(name, way, rng))


class _Guided:
    """Optuna's tree-structured Parzen estimator, asked for one point."""

    def __init__(self, sweep: SweepConfig, known: Sequence[Known]) -> None:
        self._sweep, self._known = sweep, known

    def point(self, seed: list[int], part: Point) -> Point:
        """A point near good ones; trials that still run count as bad places to look again."""
        trial = self._study(seed).ask()
        return draw(self._sweep.space, lambda name, way: part[name] if name in part else _suggested(trial, name, way))

    def _study(self, seed: list[int]) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        whole = int(np.random.default_rng(seed).integers(2**31))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=whole, multivariate=True, group=True, constant_liar=True, n_startup_trials=1
            )
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.add_trials([self._frozen(one) for one in self._known])
        return study

    def _frozen(self, one: Known) -> optuna.trial.FrozenTrial:
        import optuna

        states = optuna.trial.TrialState
        state = states.FAIL if one.ended else states.RUNNING
        ways = {name: way for name, way in self._sweep.space.items() if name in one.point and not way.grid}
        return optuna.trial.create_trial(
            state=states.COMPLETE if one.ended and one.score is not None else state,
            value=one.score if one.ended else None,
            params={name: _encoded(way, one.point[name]) for name, way in ways.items()},
            distributions={name: _distribution(way) for name, way in ways.items()},
        )


def _distribution(way: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if way.listed:  # by their places, because a value may be a mapping
        return CategoricalDistribution(list(range(len(way.listed))))
    low, high = way.range or (0.0, 1.0)
    return FloatDistribution(low, high, log=way.loguniform is not None)


def _encoded(way: Dimension, value: Any) -> Any:
    if way.range is None:
        return list(way.listed).index(value)
    low, high = way.range
    return min(max(float(value), low), high)  # a number that was made whole may lie just outside


def _suggested(trial: optuna.Trial, name: str, way: Dimension) -> Any:
    if way.listed:
        return way.listed[trial.suggest_categorical(name, list(range(len(way.listed))))]
    low, high = way.range or (0.0, 1.0)
    return fitting(name, trial.suggest_float(name, low, high, log=way.loguniform is not None))
