"""Kill a run at random moments, give the same command again, and compare the end with that of an undisturbed run.

Victims are the driver and, where the run has Ray workers, one of them. The moments are drawn from a seed over the
whole run, its starts included; where exactly a process is at such a moment is another every time, which is the point.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig, load_config
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.data.synthetic import make_corpus
from tests.conftest import TINY_MODEL
from tests.runtime.processes import Driver, train_processes
from tests.runtime.sameness import differences

_WITHIN_S = 0.3
"""A kill comes up to so long after its step was reported: in the middle of whatever comes next."""
_STARTING = 0.15
"""Share of the kills that hit a driver while it starts, instead of at a step."""
_START_S = 12.0
"""Such a kill comes within this time."""


def soak(folder: Path, kills: int, seed: int, workers: int, steps: int) -> bool:
    """Whether a run of `steps` steps that is killed `kills` times ends like one that is not, bit for bit."""
    config = soak_config(folder, workers, steps)
    began = time.monotonic()
    calm = Driver(config, "calm")
    calm.finish(3600)
    calm_s = time.monotonic() - began
    print(f"undisturbed: {steps} steps in {calm_s:.1f} s", flush=True)

    began = time.monotonic()
    starts = _disturbed(config, kills, random.Random(seed), steps)
    lost_s = (time.monotonic() - began - calm_s) / kills
    found = differences(config, "calm", "killed")
    for line in found:
        print(line)
    print(
        f"soak: {kills} kills, {starts - 1} restarts of the command, {steps} steps, {lost_s:.1f} s lost per kill, "
        f"exact: {'no' if found else 'yes'}",
        flush=True,
    )
    return not found


def soak_config(folder: Path, workers: int, steps: int) -> RunConfig:
    """A tiny net on a tiny corpus, with checkpoints that fit neither the log lines nor the validations."""
    corpus = folder / "corpus"
    if not corpus.exists():
        make_corpus(folder / "videos", speakers=4, clips_per_speaker=2, seconds=1.6, size=64)
        prepare_local(folder / "videos", corpus, PreparationConfig(resolution=32, val_fraction=0.25))
    raw: dict[str, Any] = {
        "model": TINY_MODEL,
        "data": {"path": str(corpus)},
        "optim": {"lr": 1e-3, "warmup_steps": 20, "schedule": "cosine"},
        "train": {"steps": steps, "global_batch": 8, "micro_batch": 2, "log_every": 5, "ema_decay": 0.99},
        "eval": {"every": max(1, steps // 10), "pairs": 16},
        "checkpoint": {"every": 7, "keep": 1},
        "scale": {"num_workers": workers, "use_gpu": False, "max_failures": -1},
        "storage": str(folder / "runs"),
    }
    return load_config(raw)


def _disturbed(config: RunConfig, kills: int, rng: random.Random, steps: int) -> int:
    """Run to the end with kills on the way, one line each; returns how many drivers that took."""
    targets = sorted(rng.randrange(int(steps * 0.95)) for _ in range(kills))
    driver, starts, fresh = Driver(config, "killed"), 1, True
    for number, target in enumerate(targets, 1):
        if fresh and rng.random() < _STARTING:
            time.sleep(rng.uniform(0, _START_S))  # a random moment of the start, which nothing announces
        else:
            driver.reach(target, 3600)
            time.sleep(rng.uniform(0, _WITHIN_S))
        victims = train_processes(driver.pid)
        victim = rng.choice(["driver", *(["worker"] * len(victims))])
        step = driver.status.get("step", 0)
        if victim == "worker":
            os.kill(rng.choice(victims), signal.SIGKILL)
        else:
            driver.kill()
            driver, starts = Driver(config, "killed"), starts + 1
        fresh = victim == "driver"
        print(f"kill {number}/{kills}: {victim} at step {step}", flush=True)
    driver.finish(3600)
    return starts
