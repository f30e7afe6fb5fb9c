"""Two nodes, two workers: nodes come, are announced to go, and die; the run goes on with what is there.

The sample stream does not depend on the number of workers, the order of floating-point sums does: `TOLERANCE` is how
far the losses of such a run may be from those of one worker that nothing happens to. docs/reliability.md states it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.checkpoint import read_state
from orchestrator.config import RunConfig, apply_settings, load_config
from orchestrator.training.retention import checkpoints_in
from tests.conftest import TINY_MODEL
from tests.runtime.nodes import ENVIRONMENT, Nodes
from tests.runtime.processes import Driver, measured
from tests.runtime.sameness import logged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STEPS = 400
TOLERANCE = 1e-4
"""Largest difference of a loss at any step of this run; measured was a third of it."""
WIDE = {"block_out_channels": [32, 256]}
"""With fewer channels per group, the last norm of the towers would make large what rounding makes small."""


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """A cluster of this test's own."""
    started = Nodes()
    yield started
    started.close()


@pytest.fixture
def config(tiny_corpus: Path, tmp_path: Path) -> RunConfig:
    """One or two workers, as there is room."""
    towers = {tower: TINY_MODEL[tower] | WIDE for tower in ("audio_encoder", "visual_encoder")}
    raw: dict[str, Any] = {
        "model": TINY_MODEL | towers,
        "data": {"path": str(tiny_corpus)},
        "optim": {"lr": 1e-4, "warmup_steps": 5, "schedule": "cosine"},
        "train": {"steps": STEPS, "global_batch": 8, "micro_batch": 2, "log_every": 10},
        "eval": {"every": 130, "pairs": 16, "batch": 8},
        "checkpoint": {"every": 50, "keep": 1},
        "scale": {"num_workers": 2, "min_workers": 1, "resize_s": 2, "use_gpu": False},
        "storage": str(tmp_path / "runs"),
    }
    return load_config(raw)


def test_two_one_two_workers_are_one_run(config: RunConfig, nodes: Nodes) -> None:
    alone = Driver(apply_settings(config, {"scale.num_workers": 0, "scale.min_workers": None}), "alone", warm=True)
    alone.finish()
    first, _ = nodes.add(), nodes.add()
    driver = Driver(config, "elastic", env={**ENVIRONMENT, "RAY_ADDRESS": nodes.address})
    try:
        driver.reach(60)
        assert len(nodes.workers) == 2

        nodes.announce_end(first, 30)
        driver.until(lambda: "will be taken away; saves a checkpoint at step" in driver.said, "the notice")
        asked = int(driver.said.partition("saves a checkpoint at step ")[2].split()[0])
        driver.until(lambda: newest(driver) >= asked, "a checkpoint just in time")
        with measured(driver, "announced node gone"):
            nodes.kill(first)
            driver.until(lambda: len(nodes.workers) == 1, "one worker less")

        with measured(driver, "a node joined"):
            third = nodes.add()
            driver.until(lambda: len(nodes.workers) == 2, "two workers again")

        with measured(driver, "node dead without a word"):
            nodes.kill(third)
            driver.until(lambda: len(nodes.workers) == 1, "one worker less")
        driver.finish()
    finally:
        driver.dispose()

    one, other = logged(config, "alone"), logged(config, "elastic")
    assert one.keys() == other.keys() and one["train/lr"] == other["train/lr"]
    assert [row["step"] for row in one["train/loss"]] == [row["step"] for row in other["train/loss"]]
    for name in ("train/loss", "val/loss"):
        apart = max(abs(a[name] - b[name]) for a, b in zip(one[name], other[name], strict=True))
        print(f"measured: {name} differs by up to {apart:.1e} between one worker and an elastic run")
        assert apart < TOLERANCE
    samples = [read_state(checkpoints_in(each.paths.folder)[-1]).samples for each in (alone, driver)]
    assert samples == [STEPS * 8] * 2


def newest(driver: Driver) -> int:
    """The step of the latest checkpoint."""
    return int(checkpoints_in(driver.paths.folder)[-1].name.removeprefix("step-"))
