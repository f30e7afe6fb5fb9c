"""Frozen runs and runs of no steps through `train`: here and on Ray, under their names, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from orchestrator.checkpoint import TrainState, read_state
from orchestrator.cli.look import _shown
from orchestrator.config import RunConfig, apply_settings
from orchestrator.errors import ConfigError, RunError
from orchestrator.runtime.identity import claim
from orchestrator.runtime.paths import RunPaths, read_json, write_json
from orchestrator.runtime.status import RunState, read_statuses
from orchestrator.runtime.train import TrainResult, train
from orchestrator.tracking import find_run
from orchestrator.training.retention import checkpoints_in

FROZEN: dict[str, Any] = {"optim.freeze": ["audio_encoder", "visual_encoder.conv_in"], "train.steps": 6}


def test_a_frozen_run_keeps_what_it_started_from(tiny_config: RunConfig) -> None:
    source = train(apply_settings(tiny_config, {"train.steps": 6}), "source")
    last = checkpoints_in(source.folder)[-1]
    start = {"start.checkpoint": str(last), "start.verb": "resume", "train.steps": 9}
    config = apply_settings(tiny_config, {**FROZEN, **start})
    result = train(config, "frozen")
    assert_only_the_rest_moved(read_state(last), final(result))
    notes = [note["text"] for note in (read_json(RunPaths.of(config.storage, "frozen").status) or {})["notes"]]
    assert "parameters train" in notes[0] and "are left out, because these are frozen now" in notes[1]
    record = find_run(result.tracking_uri, "syncnet", "frozen")
    assert record is not None and "audio_encoder" in record.params["optim.freeze"]
    with pytest.raises(RunError, match=r"exists with other settings: `optim\.freeze` was \['audio_encoder', 'vis"):
        train(apply_settings(config, {"optim.freeze": ["audio_encoder"]}), "frozen")


def test_a_run_that_knew_no_freezing_is_a_run_without_it(tiny_config: RunConfig, tmp_path: Path) -> None:
    paths = RunPaths(tmp_path, "old")
    claim(paths, tiny_config, {})
    old = read_json(paths.identity)
    assert old is not None and old["settings"].pop("optim.freeze") == []
    write_json(paths.identity, old)
    assert claim(paths, tiny_config, {})
    with pytest.raises(RunError, match=r"`optim\.freeze` was \[\] and is"):
        claim(paths, apply_settings(tiny_config, FROZEN | {"train.steps": 12}), {})


def test_a_wrong_name_is_refused_before_anything_starts(tiny_config: RunConfig) -> None:
    config = apply_settings(tiny_config, {"optim.freeze": ["visual_encoder.conv_inn"]})
    with pytest.raises(ConfigError, match=r"did you mean `visual_encoder.conv_in`\?"):
        train(config, "wrong")
    assert not Path(config.storage).exists()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_workers_train_what_is_not_frozen(tiny_config: RunConfig, strategy: str) -> None:
    config = apply_settings(tiny_config, {**FROZEN, "scale.strategy": strategy, "train.ema_decay": 0.9})
    begun = train(apply_settings(config, {"train.steps": 0}), "begun")
    result = train(apply_settings(config, {"scale.num_workers": 2}), "frozen")
    assert result.step == 6 and result.baseline == begun.baseline
    assert_only_the_rest_moved(final(begun), final(result))


@pytest.fixture(params=[0, pytest.param(2, marks=pytest.mark.slow)], ids=["here", "two workers"])
def nothing(request: pytest.FixtureRequest, tiny_config: RunConfig) -> Iterator[RunConfig]:
    """A run of no steps, on so many Ray workers."""
    if request.param:
        request.getfixturevalue("ray_session")
    yield apply_settings(tiny_config, {"train.steps": 0, "scale.num_workers": request.param})


def test_a_run_of_no_steps_is_finished_when_it_is_judged(nothing: RunConfig) -> None:
    result = train(nothing, "judged")
    assert (result.step, result.best_step, result.baseline, result.ended) == (0, 0, result.best, None)
    assert [path.name for path in checkpoints_in(result.folder)] == ["step-000000000"]
    assert final(result).optimizer is None
    record = find_run(result.tracking_uri, "syncnet", "judged")
    assert record is not None and record.status == "FINISHED"
    before = {path: path.stat().st_mtime_ns for path in result.folder.rglob("*") if path.is_file()}
    assert train(nothing, "judged") == result
    assert {path: path.stat().st_mtime_ns for path in result.folder.rglob("*") if path.is_file()} == before


def test_a_run_of_no_steps_is_shown(tiny_config: RunConfig) -> None:
    train(apply_settings(tiny_config, {"train.steps": 0}), "judged")
    found = read_statuses(tiny_config.storage)
    assert [(status.state, status.step, status.total_steps, status.eta) for status in found] == [
        (RunState.FINISHED, 0, 0, None)
    ]
    for name, expected in ((None, "0/0"), ("judged", "val")):
        console = Console(width=200)
        with console.capture() as shown:
            console.print(_shown(found, name))
        assert expected in shown.get() and "finished" in shown.get()


def final(result: TrainResult) -> TrainState:
    return read_state(checkpoints_in(result.folder)[-1])


def assert_only_the_rest_moved(first: TrainState, last: TrainState) -> None:
    """Weights that are judged, weights that are stepped, and moments."""
    frozen, moments = tuple(FROZEN["optim.freeze"]), last.optimizer or {}
    for name, value in first.weights.items():
        assert torch.equal(value, last.weights[name]) == name.startswith(frozen), name
        assert torch.equal(value, last.judged_weights[name]) == name.startswith(frozen), name
        assert (name in moments) != name.startswith(frozen), name
