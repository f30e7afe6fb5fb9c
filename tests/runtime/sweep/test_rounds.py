"""Population-based training really goes on from the donors' checkpoints, also when it is killed between two rounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.checkpoint import read_state
from orchestrator.config import RunConfig, apply_settings
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.sweep import sweep
from orchestrator.runtime.sweep.ledger import Ledger
from orchestrator.runtime.sweep.rounds import end_round, make_copies, round_ends
from orchestrator.runtime.train import train
from orchestrator.training.retention import checkpoint_folder

SPACE: dict[str, Any] = {"optim.lr": {"loguniform": [1e-4, 1e-1]}}
POPULATION = {"sweep": {"space": SPACE, "scheduler": "pbt", "trials": 4, "interval_steps": 4}}


@pytest.fixture
def config(tiny_config: RunConfig) -> RunConfig:
    """Judged by a figure that is never equal for two trials; what rounds end with is kept for the test."""
    settings = {"checkpoint.metric": "val/loss", "checkpoint.keep_every": 4, "eval.every": 4, "scale.num_workers": 1}
    return apply_settings(tiny_config, {**settings, **POPULATION})


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return read_state(folder).weights


def same(one: Path, other: Path) -> bool:
    first, second = weights_of(one), weights_of(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_rounds_end_at_validations_and_with_the_run(config: RunConfig) -> None:
    assert round_ends(config) == [4, 8, 12]
    odd = apply_settings(config, {"train.steps": 14})
    assert round_ends(odd) == [4, 8, 12, 14]
    assert round_ends(apply_settings(odd, {"sweep.interval_steps": None})) == [4, 8, 12, 14]


def test_copies_that_a_crash_left_undone_are_done_by_the_next_start(config: RunConfig) -> None:
    paths = RunPaths.of(config.storage, "population")
    ledger = Ledger(paths.ledger)
    for rate in (1e-4, 1e-3, 1e-2, 1e-1):
        trial = ledger.draw({"optim.lr": rate}).trial
        own = {"sweep": None, "scale.num_workers": 0, "storage": str(paths.folder / "trials"), "optim.lr": rate}
        train(apply_settings(config, {**own, "train.steps": 4, "optim.warmup_steps": 0}), trial)
    (line,) = end_round(config, paths, ledger, 4)
    again = Ledger(paths.ledger)
    (copied,) = [entry for entry in again.trials() if entry.copies]
    donor = copied.copies[0][1]
    assert line == f"trial {copied.trial} goes on as a copy of {donor} from step 4"
    mine, theirs = (checkpoint_folder(paths.trial(trial).folder, 4) for trial in (copied.trial, donor))
    assert not same(mine, theirs)
    make_copies(paths, again, 4)
    assert same(mine, theirs) and copied.point["optim.lr"] != ledger.entries[donor].point["optim.lr"]
    make_copies(paths, again, 4)
    assert same(mine, theirs)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_population_trains_on_from_its_best(config: RunConfig) -> None:
    result = sweep(config, "pbt")
    assert {trial.state for trial in result.summary.trials} == {"finished"}
    ledger = Ledger(result.folder / "trials.jsonl")
    assert ledger.rounds == 3
    copies = [(entry, number, donor) for entry in ledger.trials() for number, donor in entry.copies if number < 3]
    assert copies, "the losses differ, so that somebody is the worst"
    for entry, number, donor in copies:
        step = round_ends(config)[number - 1]
        mine, theirs = (checkpoint_folder(result.folder / "trials" / trial, step) for trial in (entry.trial, donor))
        assert same(mine, theirs), "its first weights are the donor's"
        assert not same(*(checkpoint_folder(result.folder / "trials" / t, 12) for t in (entry.trial, donor)))
    starts = [
        json.loads(line)["facts"]["start"]
        for line in (result.folder / "trials" / copies[0][0].trial / "journal.jsonl").read_text().splitlines()
        if "start" in json.loads(line).get("facts", {})
    ]
    assert [start["step"] for start in starts] == [0, 4, 8]
