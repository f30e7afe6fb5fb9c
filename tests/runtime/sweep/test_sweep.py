"""A sweep normalizes once, judges the untouched file as trial 0, ranks all on the same pairs, and is not repeated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.checkpoint import read_plain
from orchestrator.config import RunConfig, apply_settings
from orchestrator.errors import ConfigError, RunError
from orchestrator.runtime.progress import look_at
from orchestrator.runtime.sweep import SweepResult, extend, fork_config, sweep
from orchestrator.runtime.sweep.search import concurrency
from orchestrator.runtime.train import train
from orchestrator.tracking import child_runs, find_run, read_history
from tests.runtime.sweep.conftest import SPACE


@pytest.mark.usefixtures("ray_session")
def test_a_sweep_from_a_weights_only_file(swept: RunConfig) -> None:
    result = sweep(swept, "search")
    assert [trial.trial for trial in result.summary.trials] == ["000", "001", "002"]
    assert result.baseline is not None and result.baseline.trial == "000"
    assert {trial.state for trial in result.ranking} == {"finished"}
    values = [trial.best.value for trial in result.ranking if trial.best]
    assert values == sorted(values, reverse=True) and len(values) == 3
    assert sorted(trial.settings["optim.lr"] for trial in result.ranking if trial.settings) == [1e-5, 1e-3]
    assert len(list((Path(swept.storage) / "states").iterdir())) == 1, "the file is normalized once"
    assert result.summary.answer in result.report.read_text()
    assert result.summary.pairs == 16 and result.baseline.samples == 0
    _check_records(swept, result)
    _check_starts(result)
    seen = look_at(result.folder)
    assert seen is not None and (seen.completed, seen.total) == (3, 3)
    _check_second_call(swept, result)


def _check_records(config: RunConfig, result: SweepResult) -> None:
    parent = find_run(result.tracking_uri, config.tracking.experiment, "search")
    assert parent is not None and parent.run_id == result.run_id and parent.status == "FINISHED"
    assert parent.metrics["trials/finished"] == 2 and parent.tags["answer"] == result.summary.answer
    children = child_runs(result.tracking_uri, config.tracking.experiment, result.run_id)
    assert sorted(child.tags["trial"] for child in children) == ["000", "001", "002"]
    assert {child.status for child in children} == {"FINISHED"}
    assert {child.tags["start.verb"] for child in children} == {"init"}
    assert len({child.tags["pairs_hash"] for child in children}) == 1
    assert sorted(child.run_id for child in children) == sorted(trial.run_id for trial in result.summary.trials)


def _check_starts(result: SweepResult) -> None:
    """Every trial's own step 0 is the baseline: the same normalized state, judged on the same pairs."""
    assert result.baseline is not None and result.baseline.best is not None
    for trial in result.summary.trials:
        history = read_history(result.tracking_uri, trial.run_id, [result.summary.metric])
        assert history[0] == {"step": 0, result.summary.metric: pytest.approx(result.baseline.best.value)}
        assert read_plain(trial.checkpoint)["step"] == trial.best_step
        status = json.loads((result.folder / "trials" / trial.trial / "status.json").read_text())
        assert "/states/" in status["start"]["source"] and "weights.pt" not in status["start"]["source"]


def _check_second_call(config: RunConfig, result: SweepResult) -> None:
    before = {path: path.stat().st_mtime_ns for path in result.folder.glob("trials/*/step-*/manifest.json")}
    again = sweep(config, "search")
    assert again.summary.trials == result.summary.trials
    assert {path: path.stat().st_mtime_ns for path in result.folder.glob("trials/*/step-*/manifest.json")} == before


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_sweep_is_extended_and_its_best_trial_goes_on(swept: RunConfig) -> None:
    first = sweep(swept, "grow")
    more = extend("grow", trials=1, storage=swept.storage)
    assert [trial.trial for trial in more.summary.trials] == ["000", "001", "002", "003", "004"]
    assert more.summary.trials[:3] == first.summary.trials, "what was done is not done again"
    again = sweep(swept, "grow")
    assert len(again.summary.trials) == 5, "the smaller budget of its first command takes nothing back"
    config = fork_config("grow", 6, trial="001", storage=swept.storage)
    result = train(apply_settings(config, {"scale.num_workers": 0}), "longer")
    assert result.start["verb"] == "fork" and result.start["step"] in (0, 2, 4) and result.step == 6


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_trials_of_two_workers_do_not_deadlock(swept: RunConfig) -> None:
    result = sweep(apply_settings(swept, {"scale.num_workers": 2}), "wide")
    assert [trial.state for trial in result.ranking] == ["finished"] * 3


@pytest.mark.usefixtures("ray_session")
def test_a_trial_that_cannot_train_is_marked_and_the_sweep_goes_on(swept: RunConfig) -> None:
    # a corpus whose clips allow no such shift
    space = {"data.negatives": {"grid": [{"same_clip": 1}]}, "data.min_shift": {"grid": [1, 500]}}
    result = sweep(apply_settings(swept, {"sweep": {"space": space, "search": "grid"}}), "half")
    assert [trial.state for trial in result.summary.trials] == ["finished", "finished", "failed"]
    failed = result.ranking[-1]
    assert failed.best_step == 0 and "shift" in failed.why, "only its step 0 was judged"
    children = child_runs(result.tracking_uri, "syncnet", result.run_id)
    assert sorted(child.status for child in children) == ["FAILED", "FINISHED", "FINISHED"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_several_starting_states_and_none(swept: RunConfig, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes((tmp_path / "weights.pt").read_bytes())
    space = {"start.checkpoint": {"grid": [str(tmp_path / "weights.pt"), str(other), None]}}
    result = sweep(apply_settings(swept, {"sweep": {"space": space, "search": "grid"}}), "inits")
    assert [trial.baseline for trial in result.summary.trials] == [True, True, False, False, False]
    verbs = [
        json.loads((result.folder / "trials" / trial.trial / "status.json").read_text())["start"]["verb"]
        for trial in result.summary.trials
    ]
    assert verbs == ["init"] * 4 + ["scratch"]
    assert len(list((Path(swept.storage) / "states").iterdir())) == 1, "equal files are one state"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_hours_that_are_used_up_stop_it_and_more_of_them_continue_it(swept: RunConfig) -> None:
    config = apply_settings(swept, {"train.steps": 2000, "eval.every": 1, "sweep.hours": 0.5 / 3600})
    result = sweep(config, "brief")
    assert any("sweep.hours" in note for note in result.summary.notes)
    assert {trial.state for trial in result.summary.trials} & {"stopped", "waiting"}
    with pytest.raises(RunError, match="no limit of samples"):
        extend("brief", samples=5, storage=swept.storage)


def test_a_sweep_needs_its_section(tiny_config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="`sweep` is required"):
        sweep(tiny_config, "x")


def test_trials_at_once_leave_room_for_all_their_workers(tiny_config: RunConfig) -> None:
    sweeping = apply_settings(tiny_config, {"sweep": {"space": SPACE}, "scale.num_workers": 2})
    assert [concurrency(sweeping, {"CPU": cpus}) for cpus in (1, 2, 5, 8)] == [1, 1, 2, 4]
    limited = apply_settings(sweeping, {"sweep": {"space": SPACE, "max_concurrent": 3}})
    assert concurrency(limited, {"CPU": 64}) == 3
    halves = {"sweep": {"space": SPACE, "gpus_per_trial": 0.5}, "scale.num_workers": 1, "scale.use_gpu": "auto"}
    assert concurrency(apply_settings(sweeping, halves), {"CPU": 64, "GPU": 2}) == 4
