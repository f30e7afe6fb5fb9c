"""The controls of a network that was really trained: they pass, and of one that was not, nothing beats chance."""

from __future__ import annotations

from pathlib import Path

import pytest

import orchestrator
from orchestrator.config import load_config
from orchestrator.evaluation.controls import controls_here
from orchestrator.evaluation.evaluate import plan_evaluation
from orchestrator.evaluation.towers import Towers
from orchestrator.models import build_model
from orchestrator.training.evaluation import PairList
from tests.conftest import TINY_MODEL
from tests.evaluation.hand_made import FRAMES, make_corpus

MODEL = TINY_MODEL | {
    "num_frames": FRAMES,
    "audio_encoder": {
        "in_channels": 1,
        "block_out_channels": [32, 32, 64, 128],
        "downsample_factors": [[4, 2], [3, 2], [3, 3], 2],
    },
    "visual_encoder": {
        "in_channels": 3 * FRAMES,
        "block_out_channels": [32, 32, 64, 128],
        "downsample_factors": [2, 2, [2, 4], 2],
    },
}


@pytest.mark.slow
def test_the_controls_of_a_trained_network_pass(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", speakers=24, train=16)
    config = load_config(
        {
            "model": MODEL,
            "data": {"path": str(tmp_path / "corpus")},
            "optim": {"lr": 1e-3, "warmup_steps": 10},
            "train": {"steps": 240, "global_batch": 32, "micro_batch": 32, "log_every": 40},
            "eval": {"every": 80, "pairs": 200},
            "checkpoint": {"every": 80, "keep": 1},
            "scale": {"num_workers": 0, "use_gpu": False},
            "storage": str(tmp_path / "runs"),
        }
    )
    best = orchestrator.train(config, name="trained").best_checkpoint
    plan = plan_evaluation(PairList.of(corpus, "val", FRAMES, 512))
    trained = controls_here(plan, Towers(orchestrator.load_model(best)))
    assert [(each.name, each.why) for each in trained if not each.passed] == []
    fresh = {each.name: each for each in controls_here(plan, Towers(build_model(config.model)))}
    assert fresh["as_it_is"].passed is False
    assert [each.why for each in fresh.values() if each.passed is False and each.name != "as_it_is"] == []
