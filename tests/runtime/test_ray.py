"""Training on real Ray Train workers: DDP and clear errors. What kills them is in `test_failures_ray.py`."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import RunConfig, apply_settings
from orchestrator.errors import ConfigError, RunError
from orchestrator.runtime.paths import RunPaths, read_json
from orchestrator.runtime.train import train
from orchestrator.tracking import find_run, read_history

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def two_workers(tiny_config: RunConfig) -> RunConfig:
    return apply_settings(tiny_config, {"scale.num_workers": 2, "train.steps": 24, "eval.every": 12})


def test_one_and_two_workers_compute_the_same_run(two_workers: RunConfig) -> None:
    short: dict[str, Any] = {"train.steps": 1, "optim.warmup_steps": 0, "train.log_every": 1}
    two = train(apply_settings(two_workers, short), "two")
    one = train(apply_settings(two_workers, {**short, "scale.num_workers": 0}), "one")
    assert two.baseline == one.baseline
    for metric in ("train/loss", "train/grad_norm"):
        pair = [read_history(run.tracking_uri, run.run_id, [metric]) for run in (two, one)]
        assert [row[metric] for row in pair[0]] == pytest.approx([row[metric] for row in pair[1]], rel=1e-4)


def test_too_large_a_run_is_refused_instead_of_waiting_for_ever(two_workers: RunConfig) -> None:
    config = apply_settings(two_workers, {"scale.cpus_per_worker": 64})
    with pytest.raises(RunError, match="needs 128 CPUs"):
        train(config, "huge")


def test_a_deliberate_error_of_a_worker_reaches_the_driver(two_workers: RunConfig) -> None:
    """It ends the run at once: starting the workers again would change nothing."""
    settings = {"scale.use_gpu": "auto", "train.precision": "fp16", "scale.max_failures": -1}
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        train(apply_settings(two_workers, settings), "fp16")
    notes = (read_json(RunPaths.of(two_workers.storage, "fp16").status) or {}).get("notes", [])
    assert notes == [], "no failure of a worker was counted"
    record = find_run(f"sqlite:///{two_workers.storage}/mlflow.db", "syncnet", "fp16")
    assert record is not None and record.status == "FAILED"
