"""The cosines of a run's best validation: told with it, kept in every checkpoint, and told again after every crash."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.checkpoint import TrainState, read_state, save_state
from orchestrator.config import RunConfig, apply_settings
from orchestrator.data.corpus import Corpus
from orchestrator.training.evaluation import PairList
from orchestrator.training.local import LocalContext
from orchestrator.training.loop import train_loop
from orchestrator.training.metrics import pair_metrics
from orchestrator.training.retention import checkpoint_folder, checkpoints_in

Told = list[dict[str, Any] | None]


class Killed(Exception):
    """Thrown by a context in place of a power cut."""


@pytest.fixture
def config(tiny_config: RunConfig) -> RunConfig:
    """Validated at steps 0, 6 and 12, ever better; saved at 4, 6, 8 and 12."""
    return apply_settings(tiny_config, {"checkpoint.metric": "val/loss"})


def run(config: RunConfig, folder: Path, *, killed_at: int = -1) -> Told:
    """Run the loop, or until a power cut between the validation of a step and its checkpoint; the scores it told."""
    told: Told = []

    def announced(facts: Mapping[str, Any]) -> None:
        if "scores" in facts:
            told.append(facts["scores"])

    def reported(row: Mapping[str, float]) -> None:
        if row["step"] == killed_at:
            raise Killed

    context = LocalContext(
        folder, settings=config.checkpoint, on_report=reported, on_announce=announced, tell=lambda _: None
    )
    try:
        train_loop(config, Corpus.open(config.data.path or ""), context, lambda: None)
    except Killed:
        pass
    finally:
        context.finish()
    return told


def final(folder: Path) -> TrainState:
    return read_state(checkpoints_in(folder)[-1])


@pytest.mark.parametrize("settings", [{}, {"train.ema_decay": 0.5}], ids=str)
def test_the_scores_of_every_new_best_are_told(config: RunConfig, tmp_path: Path, settings: dict[str, Any]) -> None:
    config = apply_settings(config, settings)
    told, state = run(config, tmp_path), final(tmp_path)
    assert told[0] is None and [scores and scores["step"] for scores in told[1:]] == [0, 6, 12]
    last = told[-1] or {}
    assert state.best is not None and state.best.step == 12 and state.progress["scores"] == last
    pairs = PairList.of(Corpus.open(config.data.path or ""), "val", 5, config.eval.pairs, config.data)
    cosines = np.frombuffer(base64.b64decode(last["cosines"]), "<f4").copy()
    labels = torch.tensor([pair.label for pair in pairs.pairs])
    assert pair_metrics(torch.from_numpy(cosines), labels)["loss"] == state.best.value
    assert last["pairs_hash"] == pairs.hash


def test_a_validation_that_is_no_new_best_tells_none(config: RunConfig, tmp_path: Path) -> None:
    told = run(apply_settings(config, {"optim.lr": 1e-30}), tmp_path)
    assert [scores and scores["step"] for scores in told] == [None, 0]
    assert (final(tmp_path).progress["scores"] or {})["step"] == 0


def test_scores_of_steps_that_were_lost_do_not_survive(config: RunConfig, tmp_path: Path) -> None:
    whole, cut = run(config, tmp_path / "whole"), run(config, tmp_path / "cut", killed_at=6)
    assert cut == whole[:3] and final(tmp_path / "cut").step == 4
    again = run(config, tmp_path / "cut")
    assert again[0] == whole[1], "the best that it continues with is that of step 0"
    assert again[1:] == whole[2:], "the same bytes again"


def test_a_run_that_has_nothing_left_to_do_tells_its_best_again(config: RunConfig, tmp_path: Path) -> None:
    assert run(config, tmp_path)[-1:] == run(config, tmp_path)


@pytest.mark.parametrize("scores", [None, {"step": 4}, {"pairs_hash": "f" * 64}], ids=str)
def test_scores_that_are_not_those_of_the_best_are_dropped(
    config: RunConfig, tmp_path: Path, scores: dict[str, Any] | None
) -> None:
    run(config, tmp_path / "source")
    state = final(tmp_path / "source")
    other = scores and {**state.progress["scores"], **scores}
    save_state(replace(state, progress={**state.progress, "scores": other}), checkpoint_folder(tmp_path / "run", 12))
    assert run(config, tmp_path / "run") == [None]
