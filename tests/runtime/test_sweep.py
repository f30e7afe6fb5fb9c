"""A sweep normalizes once, ranks its trials with the untouched file among them, and is not repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray import tune

from orchestrator.checkpoint import export, read_plain
from orchestrator.config import RunConfig, apply_settings
from orchestrator.config.schema import Dimension, SweepConfig
from orchestrator.errors import ConfigError
from orchestrator.runtime.progress import look_at
from orchestrator.runtime.sweep import SweepResult, concurrency, search_space, sweep, trial_count
from orchestrator.runtime.train import train
from orchestrator.tracking import child_runs, find_run, read_history

SPACE = {"optim.lr": {"grid": [1e-3, 1e-5]}, "optim.weight_decay": {"uniform": [0.0, 0.1]}}


@pytest.fixture
def swept(tiny_config: RunConfig, tmp_path: Path) -> RunConfig:
    """A sweep of two trials from a weights-only file."""
    short = apply_settings(tiny_config, {"train.steps": 4, "optim.schedule": "constant", "eval.every": 2})
    source = train(apply_settings(short, {"train.steps": 2}), "source")
    export(source.best_checkpoint, "latentsync", tmp_path / "weights.pt")
    settings = {"start.checkpoint": str(tmp_path / "weights.pt"), "scale.num_workers": 1}
    return apply_settings(short, {**settings, "sweep": {"space": SPACE, "trials": 1}})


@pytest.mark.usefixtures("ray_session")
def test_a_sweep_from_a_weights_only_file(swept: RunConfig) -> None:
    result = sweep(swept, "search")
    assert result.baseline is not None and {row.state for row in result.ranking} == {"baseline", "finished"}
    values = [row.value for row in result.ranking]
    assert values == sorted(values, reverse=True) and len(values) == 3  # type: ignore[type-var]
    assert sorted(row.settings["optim.lr"] for row in result.ranking if row.settings) == [1e-5, 1e-3]
    states = list((Path(swept.storage) / "states").iterdir())
    assert len(states) == 1, "the file is normalized once"
    _check_records(swept, result)
    _check_baselines(result)
    assert look_at(result.folder) is not None and look_at(result.folder).completed == 2  # type: ignore[union-attr]
    _check_second_call(swept, result)


def _check_records(config: RunConfig, result: SweepResult) -> None:
    parent = find_run(result.tracking_uri, config.tracking.experiment, "search")
    assert parent is not None and parent.run_id == result.run_id and parent.status == "FINISHED"
    children = child_runs(result.tracking_uri, config.tracking.experiment, result.run_id)
    assert [child.status for child in children] == ["FINISHED"] * 2
    assert {child.tags["start.verb"] for child in children} == {"init"}
    assert {child.tags["pairs_hash"] for child in children} == {children[0].tags["pairs_hash"]}


def _check_baselines(result: SweepResult) -> None:
    """Every trial's own step 0 is the baseline: the same state, judged on the same pairs."""
    assert result.baseline is not None
    for row in result.ranking:
        if row.checkpoint is not None and row.trial != "baseline":
            run = find_run(result.tracking_uri, "syncnet", f"search/{row.trial}")
            assert run is not None
            history = read_history(result.tracking_uri, run.run_id, [result.metric])
            assert history[0] == {"step": 0, result.metric: result.baseline.value}
            assert read_plain(row.checkpoint)["step"] == row.step


def _check_second_call(config: RunConfig, result: SweepResult) -> None:
    before = {path: path.stat().st_mtime_ns for path in result.folder.glob("trials/*/step-*/manifest.json")}
    again = sweep(config, "search")
    assert [row.trial for row in again.ranking] == [row.trial for row in result.ranking]
    assert {path: path.stat().st_mtime_ns for path in result.folder.glob("trials/*/step-*/manifest.json")} == before


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_trials_of_two_workers_do_not_deadlock(swept: RunConfig) -> None:
    result = sweep(apply_settings(swept, {"scale.num_workers": 2}), "wide")
    assert [row.state for row in result.ranking].count("finished") == 2


@pytest.mark.usefixtures("ray_session")
def test_a_trial_that_crashes_is_marked_and_the_sweep_goes_on(swept: RunConfig) -> None:
    # a corpus whose clips allow no such shift: every trial with it fails, after its retries
    space = {"data.min_shift": {"grid": [1, 500]}}
    config = apply_settings(swept, {"sweep": {"space": space, "trials": 1}, "scale.max_failures": 0})
    result = sweep(config, "half")
    assert sorted(row.state for row in result.ranking) == ["baseline", "failed", "finished"]
    assert result.ranking[-1].value is None
    children = child_runs(result.tracking_uri, "syncnet", result.run_id)
    assert sorted(child.status for child in children) == ["FAILED", "FINISHED"]


def test_a_sweep_needs_its_section(tiny_config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="`sweep` is required"):
        sweep(tiny_config, "x")


def test_the_space_becomes_tunes() -> None:
    space: dict[str, Any] = {
        "a": Dimension(loguniform=(0.1, 1)),
        "b": Dimension(uniform=(0, 1)),
        "c": Dimension(choice=(1, 2)),
        "d": Dimension(grid=(1, 2, 3)),
    }
    drawn = search_space(SweepConfig(space=space))
    assert isinstance(drawn["a"], tune.search.sample.Float) and isinstance(drawn["b"], tune.search.sample.Float)
    assert drawn["c"].categories == [1, 2] and drawn["d"] == {"grid_search": [1, 2, 3]}
    assert trial_count(SweepConfig(space=space, trials=2)) == 6


def test_trials_at_once_leave_room_for_all_their_workers(tiny_config: RunConfig) -> None:
    sweeping = apply_settings(tiny_config, {"sweep": {"space": SPACE}, "scale.num_workers": 2})
    assert [concurrency(sweeping, cpus) for cpus in (1, 2, 5, 8)] == [1, 1, 2, 4]
    limited = apply_settings(sweeping, {"sweep": {"space": SPACE, "max_concurrent": 3}})
    assert concurrency(limited, 64) == 3
