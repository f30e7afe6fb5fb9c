"""What a run takes of its machine stands beside its figures, and changes none of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from orchestrator.config import RunConfig
from orchestrator.runtime.train import train
from orchestrator.runtime.usage import Usage
from orchestrator.tracking import read_history

CPU = torch.device("cpu")
NAMES = {f"system/{name}" for name in ("cpu_percent", "memory_gib", "node_cpu_percent", "node_memory_percent")}


def test_figures_of_this_process_and_its_node() -> None:
    usage, until = Usage(CPU), time.process_time() + 0.5
    while time.process_time() < until:
        pass
    figures = usage.beside({"step": 3.0})
    assert figures.keys() == {"step", *NAMES} and figures["step"] == 3.0
    assert figures["system/cpu_percent"] > 5, "it was busy since it began to count"
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert figures["system/memory_gib"] == pytest.approx(pages * os.sysconf("SC_PAGESIZE") / 2**30, rel=0.2)
    assert 0 < figures["system/node_memory_percent"] <= 100 and 0 <= figures["system/node_cpu_percent"] <= 100


def test_shares_of_a_moment_are_not_measured() -> None:
    now = [0.0]
    usage = Usage(CPU, every_s=1, clock=lambda: now[0])
    found = []
    for now[0] in (0.0, 0.5, 1.1, 1.9, 2.2):
        figures = usage.beside({"step": 1.0}, {"checkpoint_seconds": 3.0})
        found.append(figures.keys() > {"step", *NAMES})
        assert figures.get("system/checkpoint_seconds") == (3.0 if found[-1] else None)
    assert found == [True, False, True, False, True]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_figures_of_a_gpu() -> None:
    held = torch.zeros(2**28, device="cuda")
    figures = Usage(torch.device("cuda")).beside({})
    assert 1 <= figures["system/gpu_memory_gib"] <= figures["system/gpu_memory_all_gib"]
    assert 0 <= figures.get("system/gpu_percent", 0) <= 100
    del held


def test_a_run_records_them(tiny_config: RunConfig) -> None:
    result = train(tiny_config, "run")
    assert result.metrics["system/checkpoint_age_seconds"] > 0
    rows = read_history(result.tracking_uri, result.run_id, sorted(NAMES))
    assert rows[0].keys() == {"step", *NAMES} and rows[0]["step"] == 0
    assert result.metrics.keys() > NAMES
