"""The driver is killed with SIGKILL in the middle; the same command continues and ends with the same result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
import yaml

from orchestrator.checkpoint import read_state
from orchestrator.config import RunConfig, apply_settings
from orchestrator.runtime.paths import RunPaths, read_json
from orchestrator.tracking import find_run, read_history
from tests.runtime.processes import wait_for


def test_the_same_command_continues(tiny_config: RunConfig, tmp_path: Path) -> None:
    steps = 150
    settings = {"train.steps": steps, "eval.every": 50, "train.log_every": 5}
    config = apply_settings(tiny_config, {**settings, "checkpoint.every": 10})
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-m", "orchestrator.cli", "train", str(file), "--name"]
    subprocess.run([*command, "whole"], check=True, capture_output=True, timeout=300)

    paths = RunPaths.of(config.storage, "cut")
    driver = subprocess.Popen([*command, "cut"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: (read_json(paths.status) or {}).get("step", 0) >= 20, "step 20")
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    killed_at = (read_json(paths.status) or {})["step"]
    assert killed_at < steps, "the run ended before the driver was killed"
    again = subprocess.run([*command, "cut"], check=True, capture_output=True, text=True, timeout=300)
    assert "continues from step-" in again.stdout

    final = f"step-{steps:09d}"
    whole, cut = (read_state(RunPaths.of(config.storage, name).folder / final) for name in ("whole", "cut"))
    assert (cut.step, cut.samples, cut.best) == (whole.step, whole.samples, whole.best)
    assert all(torch.equal(whole.weights[name], cut.weights[name]) for name in whole.weights)
    uri = f"sqlite:///{paths.storage}/mlflow.db"
    record = find_run(uri, "syncnet", "cut")
    assert record is not None and record.status == "FINISHED"
    rows = read_history(uri, record.run_id, ["train/loss", "val/loss"])
    expected = read_history(uri, find_run(uri, "syncnet", "whole").run_id, ["train/loss", "val/loss"])  # type: ignore[union-attr]
    assert rows == expected
