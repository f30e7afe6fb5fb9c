"""Killed with SIGKILL at random steps and continued, a run is the same run: state and figures, bit for bit.

The driver is killed here, which without Ray workers is the process that trains; `test_failures_ray.py` kills workers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, apply_settings, load_config
from tests.conftest import TINY_MODEL
from tests.runtime.processes import Driver
from tests.runtime.sameness import differences, logged

CONTRAST = {"loss.name": "info_nce", "loss.group": 4, "checkpoint.metric": "val/auc"}
BF16 = {"train.precision": "bf16", "train.steps": 45, "data.augment.flip": 0.5}  # bf16 is slow on a CPU
MARGIN = {"loss.name": "margin", "checkpoint.metric": "val/auc"}


@pytest.fixture(scope="module")
def config(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Log lines, validations and checkpoints fall on different steps; one tracking store for all tests here."""
    raw: dict[str, Any] = {
        "model": TINY_MODEL,
        "data": {"path": str(tiny_corpus)},
        "optim": {"lr": 1e-3, "warmup_steps": 5, "schedule": "cosine"},
        "train": {"steps": 90, "global_batch": 8, "micro_batch": 8, "log_every": 5},
        "eval": {"every": 33, "pairs": 16, "batch": 8},
        "checkpoint": {"every": 7, "keep": 1},
        "scale": {"num_workers": 0, "use_gpu": False},
        "storage": str(tmp_path_factory.mktemp("runs")),
    }
    return load_config(raw)


@pytest.fixture
def drivers() -> Iterator[list[Driver]]:
    """Drivers that do not outlive the test."""
    started: list[Driver] = []
    yield started
    for driver in started:
        driver.dispose()


@pytest.mark.parametrize(
    ("seed", "settings"),
    [
        (1, {"train.micro_batch": 3, "train.ema_decay": 0.9}),  # accumulation, with a smaller last part
        pytest.param(2, BF16, marks=pytest.mark.slow),
        pytest.param(3, {**CONTRAST, "train.micro_batch": 4}, marks=pytest.mark.slow),
        pytest.param(4, {**MARGIN, "checkpoint.asynchronous": False}, marks=pytest.mark.slow),
    ],
    ids=["accumulation-ema", "bf16", "info_nce", "margin"],
)
def test_three_kills_change_nothing(
    config: RunConfig, drivers: list[Driver], seed: int, settings: dict[str, Any]
) -> None:
    config = apply_settings(config, settings)
    steps = config.train.steps
    calm, killed = f"calm-{seed}", f"killed-{seed}"
    drivers.append(Driver(config, calm, warm=True))
    drivers[-1].finish()
    at = sorted(random.Random(seed).sample(range(3, steps * 2 // 3), 3))
    for step in at:
        drivers.append(Driver(config, killed, warm=True))
        drivers[-1].reach(step)
        drivers[-1].kill()
    drivers.append(Driver(config, killed, warm=True))
    drivers[-1].finish()
    assert "continues from step-" in drivers[-1].said
    assert differences(config, calm, killed) == []
    figures = logged(config, killed)
    assert [row["step"] for row in figures["val/accuracy"]] == [*range(0, steps, 33), steps]
    assert [row["step"] for row in figures["train/loss"]] == sorted({*range(5, steps + 1, 5), *range(33, steps, 33)})
