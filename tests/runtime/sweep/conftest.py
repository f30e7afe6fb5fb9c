"""A small sweep from a weights-only file, on the tiny corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.checkpoint import export
from orchestrator.config import RunConfig, apply_settings
from orchestrator.runtime.train import train

SPACE = {"optim.lr": {"grid": [1e-3, 1e-5]}, "optim.weight_decay": {"uniform": [0.0, 0.1]}}


@pytest.fixture
def swept(tiny_config: RunConfig, tmp_path: Path) -> RunConfig:
    """A sweep of two trials, four steps each."""
    short = apply_settings(tiny_config, {"train.steps": 4, "optim.schedule": "constant", "eval.every": 2})
    source = train(apply_settings(short, {"train.steps": 2}), "source")
    export(source.best_checkpoint, "latentsync", tmp_path / "weights.pt")
    settings = {"start.checkpoint": str(tmp_path / "weights.pt"), "scale.num_workers": 1}
    return apply_settings(short, {**settings, "sweep": {"space": SPACE, "trials": 1}})
