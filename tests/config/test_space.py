"""What a space means: its points, conditions, impossible values, and the configuration of a trial."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig, apply_settings, load_config
from orchestrator.config.space import draw, grid_points, in_order, random_value, trial_count
from orchestrator.config.sweep import Dimension, SweepConfig
from orchestrator.config.trial import samples_of, trial_config
from orchestrator.errors import ConfigError
from tests.conftest import TINY_MODEL

BASE: dict[str, Any] = {
    "model": TINY_MODEL,
    "train": {"steps": 100, "global_batch": 32},
    "eval": {"every": 10},
    "checkpoint": {"every": 20, "metric": "val/auc"},
}
LOSSES = {
    "loss.name": {"choice": ["cosine_bce", "info_nce"]},
    "loss.temperature": {"loguniform": [0.01, 0.2], "when": {"loss.name": "info_nce"}},
}


def problems_of(space: dict[str, Any], **settings: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config({**BASE, "sweep": {"space": space, **settings}})
    return caught.value.problems


def test_a_setting_with_a_condition_is_drawn_only_where_it_holds() -> None:
    space = SweepConfig(space=LOSSES).space  # type: ignore[arg-type]
    points = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        points.append(draw(space, lambda name, way, rng=rng: random_value(name, way, rng)))  # type: ignore[misc]
    assert {point["loss.name"] for point in points} == {"cosine_bce", "info_nce"}
    assert all(("loss.temperature" in point) == (point["loss.name"] == "info_nce") for point in points)
    assert all(0.01 <= point.get("loss.temperature", 0.1) <= 0.2 for point in points)


def test_a_grid_has_every_possible_combination_once() -> None:
    space = {
        "a": Dimension(grid=(1, 2)),
        "b": Dimension(choice=("x", "y")),
        "c": Dimension(grid=(5, 6, 7), when={"b": ["y"]}),
    }
    points = grid_points(space)
    assert len(points) == 2 * (1 + 3) and {"a": 1, "b": "x"} in points and {"a": 2, "b": "y", "c": 7} in points


def test_dependencies_come_first_and_circles_are_refused() -> None:
    space = {"b": Dimension(choice=(1,), when={"a": 1}), "a": Dimension(choice=(1, 2))}
    assert in_order(space) == ["a", "b"]
    circle = {"a": Dimension(choice=(1,), when={"b": 1}), "b": Dimension(choice=(1,), when={"a": 1})}
    with pytest.raises(ValueError, match="wait for these"):
        in_order(circle)


def test_whole_numbers_are_drawn_whole() -> None:
    way = Dimension(uniform=(0, 3))
    drawn = {random_value("optim.warmup_steps", way, np.random.default_rng(seed)) for seed in range(40)}
    assert drawn == {0, 1, 2, 3} and all(isinstance(value, int) for value in drawn)
    assert isinstance(random_value("optim.weight_decay", way, np.random.default_rng(0)), float)


def test_how_many_trials_there_are() -> None:
    space: dict[str, Any] = {"optim.lr": {"grid": [1e-3, 1e-4, 1e-5]}, "optim.weight_decay": {"choice": [0.0, 0.1]}}
    assert trial_count(SweepConfig(space=space, trials=2)) == 6, "two draws for each point of the grid"
    assert trial_count(SweepConfig(space=space, search="grid")) == 6
    assert trial_count(SweepConfig(space=space, search="grid", trials=4)) == 4
    assert trial_count(SweepConfig(space={"optim.lr": space["optim.weight_decay"]})) == 8


@pytest.mark.parametrize(
    ("space", "settings", "expected"),
    [
        ({"optim.ler": {"grid": [1]}}, {}, "`optim.ler`, which is not a setting; did you mean `optim.lr`?"),
        ({"scale.num_workers": {"grid": [1]}}, {}, "`scale.num_workers`, which cannot be swept: it changes no figure"),
        ({"data.negatives": {"uniform": [0, 1]}}, {}, "must be a choice or a grid of mappings"),
        ({"train.seed": {"choice": [1, -1]}}, {}, "`sweep.space.train.seed` has the value -1"),
        ({"optim.warmup_steps": {"uniform": [0, 200]}}, {}, "has the value 200.0: `optim.warmup_steps` must be <="),
        ({"loss.temperature": {"choice": [0.1], "when": {"loss.name": "info_nce"}}}, {}, "that are not swept"),
        ({"train.global_batch": {"choice": [32]}}, {"scheduler": "pbt"}, "pbt cannot change while a trial runs"),
        ({"optim.lr": {"choice": [0.1]}}, {"interval_steps": 15}, "must be a multiple of `eval.every` (10)"),
        ({"optim.lr": {"loguniform": [1e-5, 1e-3]}}, {"search": "grid"}, "needs listed values"),
        ({"optim.lr": {"grid": [1e-5]}}, {"search": "tpe", "scheduler": "pbt"}, "pbt, which draws by itself"),
    ],
)
def test_what_is_wrong_with_a_space_is_said(space: dict[str, Any], settings: dict[str, Any], expected: str) -> None:
    assert any(expected in problem for problem in problems_of(space, **settings))


def test_a_value_that_is_possible_with_some_others_is_no_problem() -> None:
    # 200 steps of warm-up are possible where the run has 400 steps
    space = {"optim.warmup_steps": {"choice": [0, 200]}, "train.steps": {"choice": [100, 400]}}
    assert load_config({**BASE, "sweep": {"space": space}}).sweep is not None


def test_a_trial_of_another_batch_sees_equally_many_samples() -> None:
    config = load_config({**BASE, "optim": {"warmup_steps": 10}})
    trial = trial_config(config, {"train.global_batch": 64})
    assert samples_of(trial) == samples_of(config)
    steps = (trial.train.steps, trial.optim.warmup_steps, trial.eval.every, trial.checkpoint.every)
    assert steps == (50, 5, 5, 10)
    drawn = trial_config(config, {"train.global_batch": 64, "optim.warmup_steps": 7})
    assert drawn.optim.warmup_steps == 7, "what is swept is as it was drawn"


def test_a_section_can_be_swept_as_a_whole(tiny_config: RunConfig) -> None:
    trial = trial_config(tiny_config, {"data.negatives": {"same_clip": 0, "cross_speaker": 1}})
    assert (trial.data.negatives.same_clip, trial.data.negatives.cross_speaker) == (0, 1)
    assert apply_settings(trial, {}).sweep is None
