"""Training on real Ray Train workers: DDP, a SIGKILL in the middle, a second start, and clear errors."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.checkpoint import read_state
from orchestrator.config import RunConfig, apply_settings
from orchestrator.errors import ConfigError, RunError
from orchestrator.runtime.paths import RunPaths, read_json
from orchestrator.runtime.train import train
from orchestrator.tracking import find_run, read_history
from tests.runtime.processes import kill_train_worker, wait_for

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def two_workers(tiny_config: RunConfig) -> RunConfig:
    return apply_settings(tiny_config, {"scale.num_workers": 2, "train.steps": 24, "eval.every": 12})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_state(folder).weights


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(two_workers: RunConfig) -> None:
    """The run with a SIGKILL in it ends with the same weights and figures as the one without, bit for bit."""
    calm = train(two_workers, "calm")
    killed: list[int] = []

    def assassin() -> None:
        status = RunPaths.of(two_workers.storage, "killed").status
        wait_for(lambda: 8 <= (read_json(status) or {}).get("step", 0) < 24, "step 8")
        killed.append(kill_train_worker())

    thread = threading.Thread(target=assassin)
    thread.start()
    # small steps that take a while, so that the kill comes in the middle
    result = train(apply_settings(two_workers, {"train.log_every": 1}), "killed")
    thread.join()
    assert killed and result.step == calm.step == 24
    final = "step-000000024"
    first, second = weights(calm.folder / final), weights(result.folder / final)
    assert all(torch.equal(first[name], second[name]) for name in first)
    record = find_run(result.tracking_uri, "syncnet", "killed")
    assert record is not None and record.status == "FINISHED" and int(record.tags["restarts"]) >= 1
    assert record.tags["start.verb"] == "scratch"
    steps = [row["step"] for row in read_history(result.tracking_uri, result.run_id, ["train/loss"])]
    assert steps == sorted(set(steps)) and set(steps) >= {1, 4, 8, 12, 24}
    assert result.best == calm.best


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
