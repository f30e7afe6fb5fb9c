"""Connecting to Ray: what a process had arranged for itself stays arranged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from orchestrator.config import RunConfig
from orchestrator.config.schema import ScaleConfig
from orchestrator.errors import RunError
from orchestrator.runtime import cluster
from tests.runtime import heads
from tests.runtime.processes import write_config

ASKED_TO_END = """
import os, signal, time
from orchestrator.config.schema import ScaleConfig
from orchestrator.runtime import cluster
from tests.runtime import heads
from tests.runtime.processes import write_config

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
    with heads.head() as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(RunError, match=f"RAY_ADDRESS={address} cannot be reached: The current node timed out"):
            cluster.connect(ScaleConfig())


def test_a_head_that_refuses_the_token_ends_a_command_soon(tiny_config: RunConfig) -> None:
    """Ray itself would take twenty seconds of warnings, and raise what does not say why."""
    command = ["train", str(write_config(tiny_config, "one")), "--name", "one", "scale.num_workers=1"]
    with heads.head(token="1" * 32) as address:
        told = ended(command, {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "2" * 32})
    assert f"Ray at {address} refuses this token" in told and "RAY_AUTH_MODE=token" in told


def test_a_head_that_is_not_there_ends_a_command_soon(tmp_path: Path) -> None:
    """Ray itself would try for minutes, and then end the process."""
    video = tmp_path / "videos" / "someone" / "one.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"no video, but nobody looks at it yet")
    address = heads.nobody()
    told = ended(["prepare", str(tmp_path / "videos"), "--out", str(tmp_path / "out")], {"RAY_ADDRESS": address})
    assert f"Ray at {address} cannot be reached: Connection refused" in told


def ended(arguments: list[str], env: dict[str, str]) -> str:
    """What a command prints that is refused, on one line."""
    program = [sys.executable, "-m", "orchestrator.cli", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("error:") == 1, done.stderr
    return " ".join(done.stderr.split())
