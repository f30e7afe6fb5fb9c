"""Connecting to Ray: what a process had arranged for itself stays arranged."""

from __future__ import annotations

import subprocess
import sys

import pytest
import ray

from orchestrator.config.schema import ScaleConfig
from orchestrator.errors import RunError
from orchestrator.runtime import cluster

ASKED_TO_END = """
import os, signal, time
from orchestrator.config.schema import ScaleConfig
from orchestrator.runtime import cluster

signal.signal(signal.SIGTERM, signal.default_int_handler)
cluster.connect(ScaleConfig(num_workers=1))
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
except KeyboardInterrupt:
    print("ended in order")
"""


def test_a_process_that_uses_ray_still_ends_in_order_when_asked() -> None:
    ended = subprocess.run([sys.executable, "-c", ASKED_TO_END], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout.strip()) == (0, "ended in order"), ended.stderr


def test_a_ray_that_does_not_start_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(**_: object) -> None:
        raise Exception("The current node timed out\nduring startup")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", silent)
    with pytest.raises(RunError, match="cannot be started on this machine: The current node timed out during startup"):
        cluster.connect(ScaleConfig())
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(RunError, match="RAY_ADDRESS=10.0.0.1:6379 cannot be reached".replace(".", r"\.")):
        cluster.connect(ScaleConfig())
