"""Connecting to Ray: what a process had arranged for itself stays arranged."""

from __future__ import annotations

import subprocess
import sys

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
