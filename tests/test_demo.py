"""The demo's chain, small: every stage runs, a second run repeats nothing. The real recipe is what `make demo` runs."""

from __future__ import annotations

import io
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

from orchestrator.config import load_config
from orchestrator.demo import run_demo
from tests.conftest import TINY_MODEL

SHORT = {"eval": {"every": 2, "pairs": 16}, "checkpoint": {"every": 2}}
TINY = {
    "corpus": {"speakers": 4, "clips_per_speaker": 2, "seconds": 1.6, "size": 64},
    "prepare": {"resolution": 32},
    "model": TINY_MODEL,
    "pretrain": {**SHORT, "train": {"steps": 2, "global_batch": 8}, "scale": {"num_workers": 0}},
    "train": {**SHORT, "train": {"steps": 4, "global_batch": 8}, "scale": {"num_workers": 2}},
    "sweep": {
        **SHORT,
        "train": {"steps": 4, "global_batch": 8},
        "sweep": {"trials": 2, "space": {"optim.lr": {"loguniform": [1e-4, 1e-2]}}},
    },
}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_the_whole_chain_and_again(tmp_path: Path) -> None:
    said = io.StringIO()
    first = run_demo(tmp_path / "demo", Console(file=said, width=200), TINY)
    assert set(torch.load(first.weights_only, weights_only=True)) == {"state_dict"}
    assert first.baseline.pairs_hash == first.trained.pairs_hash == first.best_trial.pairs_hash
    assert first.training.start["verb"] == "init" and first.sweep.baseline is not None
    for line in ("[7/7]", "chance", "baseline (the weights-only file)", "open MLflow with: mlflow ui"):
        assert line in said.getvalue()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "demo").rglob("*.safetensors")}
    second = run_demo(tmp_path / "demo", Console(file=io.StringIO()), TINY)
    for name in ("baseline", "trained", "best_trial"):
        assert getattr(second, name).to_dict() == getattr(first, name).to_dict()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "demo").rglob("*.safetensors")} == kept


def test_the_embedded_recipe_is_valid() -> None:
    recipe = yaml.safe_load(files("orchestrator").joinpath("demo.yaml").read_text(encoding="utf-8"))
    for part in ("pretrain", "train", "sweep"):
        config = load_config({"model": recipe["model"], **recipe[part]})
        assert config.train.steps > 0
    assert config.sweep is not None and config.sweep.trials == 4
