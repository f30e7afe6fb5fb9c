"""The next point of a sweep is a pure function of what is known, and finds its way."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.config import RunConfig, load_config
from orchestrator.config.space import Point
from orchestrator.errors import ConfigError
from orchestrator.sweeps.default import with_sweep
from orchestrator.sweeps.search import Known, possible_points, propose, total_trials
from tests.conftest import TINY_MODEL

SPACE: dict[str, Any] = {
    "optim.lr": {"loguniform": [1e-6, 1e-2]},
    "optim.weight_decay": {"choice": [0.0, 0.01, 0.1]},
    "optim.schedule": {"choice": ["constant", "cosine"]},
    "optim.min_lr_ratio": {"uniform": [0.0, 0.5], "when": {"optim.schedule": "cosine"}},
}


def sweeping(space: dict[str, Any] | None = None, **settings: Any) -> RunConfig:
    base = {"model": TINY_MODEL, "train": {"steps": 100, "global_batch": 32}, "eval": {"every": 10}}
    return load_config({**base, "sweep": {"space": space or SPACE, **settings}})


def height(point: Point) -> float:
    """Highest at a learning rate of 3e-4."""
    return -abs(math.log10(point["optim.lr"]) - math.log10(3e-4))


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_the_same_number_gives_the_same_point(search: str) -> None:
    config = sweeping(search=search, trials=12)
    known: list[Known] = []
    for number in range(12):
        point = propose(config, number, known)
        assert point == propose(config, number, known)
        assert point not in [one.point for one in known]
        known.append(Known(point, height(point), ended=number < 10))


def test_points_do_not_depend_on_how_far_others_are_when_drawn_at_random() -> None:
    config = sweeping(trials=6)
    alone = [propose(config, number, []) for number in range(6)]
    assert alone == [propose(config, n, [Known(point, 0.0, True) for point in alone[:n]]) for n in range(6)]
    assert alone != [propose(sweeping(trials=6, seed=7), number, []) for number in range(6)]


def test_tpe_draws_near_what_was_good() -> None:
    config, known = sweeping(search="tpe", trials=40), list[Known]()
    for number in range(40):
        point = propose(config, number, known)
        known.append(Known(point, height(point), ended=True))
    guided = [-height(one.point) for one in known[15:]]
    chance = [-height(propose(sweeping(seed=seed), 0, [])) for seed in range(100)]
    assert sum(guided) / len(guided) < 0.6 * sum(chance) / len(chance)


def test_tpe_goes_on_beside_failed_and_running_trials() -> None:
    config = sweeping(search="tpe", trials=12)
    points = [propose(config, number, []) for number in range(3)]
    known = [*(Known(point, None, ended=True) for point in points), Known(points[0], None, ended=False)]
    assert set(propose(config, 4, known)) <= set(SPACE)


def test_impossible_points_of_a_grid_are_left_out() -> None:
    space = {"optim.warmup_steps": {"grid": [0, 150]}, "train.steps": {"grid": [100, 200]}}
    config = sweeping(space, search="grid")
    assert total_trials(config) == 3
    assert [propose(config, number, []) for number in range(3)] == possible_points(config)
    assert {"optim.warmup_steps": 150, "train.steps": 100} not in possible_points(config)


def test_impossible_points_are_drawn_again() -> None:
    space = {"optim.warmup_steps": {"choice": [0, 150]}, "train.steps": {"choice": [100, 200]}}
    drawn = [propose(sweeping(space, trials=40), number, []) for number in range(40)]
    assert all(point["optim.warmup_steps"] <= point["train.steps"] for point in drawn)
    assert {point["optim.warmup_steps"] for point in drawn} == {0, 150}


def test_a_space_without_any_possible_point_is_one_error() -> None:
    config = sweeping({"optim.lr": {"loguniform": [1e-5, 1e-3]}})
    assert config.sweep is not None
    impossible = {"train.global_batch": config.sweep.space["optim.lr"]}
    broken = config.model_copy(update={"sweep": config.sweep.model_copy(update={"space": impossible})})
    with pytest.raises(ConfigError, match="hardly any possible point"):
        propose(broken, 0, [])


def test_grids_beside_a_search_are_taken_in_turn() -> None:
    config = sweeping({**SPACE, "train.seed": {"grid": [1, 2, 3]}}, trials=2)
    seeds = [propose(config, number, [])["train.seed"] for number in range(total_trials(config))]
    assert seeds == [1, 2, 3, 1, 2, 3]


def test_a_budget_alone_is_a_sweep_over_what_decides_most() -> None:
    plain = load_config({"model": TINY_MODEL, "optim": {"lr": 1e-4}, "train": {"steps": 200}})
    config = with_sweep(plain, trials=20, hours=8)
    assert config.sweep is not None and (config.sweep.trials, config.sweep.hours) == (20, 8)
    assert config.sweep.space["optim.lr"].loguniform == pytest.approx((1e-5, 1e-3))
    assert (config.sweep.search, config.sweep.scheduler) == ("tpe", "asha")
    assert with_sweep(plain).sweep is None
    assert with_sweep(sweeping(trials=3), trials=5).sweep == sweeping(trials=5).sweep
