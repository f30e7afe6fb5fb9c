"""Failures of a run with Ray workers, each really caused: one run suffers them all and ends as if nothing had happened.

What each one costs on this machine is printed; `docs/reliability.md` has the figures.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, load_config
from orchestrator.runtime.paths import RunPaths, read_json
from orchestrator.training.retention import checkpoints_in
from tests.conftest import TINY_MODEL
from tests.processes import is_alive, wait_for
from tests.runtime.nodes import ENVIRONMENT, Head
from tests.runtime.processes import Driver, measured, step_of, train_processes, write_config
from tests.runtime.sameness import differences

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STEPS = 900
TIME_TO_SAVE = '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}'
"""As docs/reliability.md advises: Ray gives a job that is stopped three seconds."""


@pytest.fixture(scope="module")
def config(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Two workers; log lines, validations and checkpoints fall on different steps."""
    raw: dict[str, Any] = {
        "model": TINY_MODEL,
        "data": {"path": str(tiny_corpus)},
        "optim": {"lr": 1e-3, "warmup_steps": 5, "schedule": "cosine"},
        "train": {"steps": STEPS, "global_batch": 8, "micro_batch": 2, "log_every": 10, "ema_decay": 0.99},
        "eval": {"every": 150, "pairs": 16, "batch": 8},
        "checkpoint": {"every": 14, "keep": 1},
        "scale": {"num_workers": 2, "use_gpu": False, "stuck_after_s": 20, "max_failures": -1},
        "storage": str(tmp_path_factory.mktemp("runs")),
    }
    return load_config(raw)


@pytest.fixture(scope="module")
def calm(config: RunConfig) -> str:
    """The name of the run to which nothing happens."""
    Driver(config, "calm").finish()
    return "calm"


@pytest.fixture
def drivers() -> Iterator[list[Driver]]:
    """Drivers that do not outlive the test."""
    started: list[Driver] = []
    yield started
    for driver in started:
        driver.dispose()


@pytest.fixture
def head() -> Iterator[Head]:
    """A Ray head of this test's own."""
    started = Head()
    yield started
    started.close()


def test_workers_controller_and_driver_die_and_nothing_changes(
    config: RunConfig, calm: str, drivers: list[Driver]
) -> None:
    driver = Driver(config, "killed")
    drivers.append(driver)
    chance, paths = random.Random(5), RunPaths.of(config.storage, "killed")
    for kill in range(3):
        driver.reach(step_of(paths) + chance.randint(20, 60))
        with measured(driver, f"one worker killed, {kill + 1} of 3"):
            os.kill(chance.choice(train_processes(driver.pid)), signal.SIGKILL)
    with measured(driver, "all workers killed"):
        for worker in train_processes(driver.pid):
            os.kill(worker, signal.SIGKILL)
    with measured(driver, "one worker stuck"):
        stuck = train_processes(driver.pid)[-1]
        os.kill(stuck, signal.SIGSTOP)
        driver.until(lambda: "stuck after step" in driver.said, "a word about the stuck worker")
        wait_for(lambda: not is_alive(stuck), "the stuck worker's end")
    with measured(driver, "controller killed"):
        (controller,) = train_processes(driver.pid, "TrainController")
        os.kill(controller, signal.SIGKILL)
    assert "controller died" in driver.said

    with measured(driver, "driver killed"):
        driver.kill()
        drivers.append(Driver(config, "killed"))
    drivers[-1].finish()
    assert drivers[-1].status["restarts"] >= 7
    assert differences(config, calm, "killed") == []


def test_a_job_that_is_stopped_and_a_head_that_is_restarted(
    config: RunConfig, calm: str, drivers: list[Driver], head: Head
) -> None:
    """A run as a job, which `ray job stop` ends, and then under a head that dies and is started again."""
    paths, job = RunPaths.of(config.storage, "jobbed"), Path(__file__).parents[2] / "jobs" / "train.py"
    file = write_config(config, "jobbed")
    command = [sys.executable, str(job), str(file), "--name", "jobbed"]
    head.job("submit", "--no-wait", "--submission-id=one", f"--runtime-env-json={TIME_TO_SAVE}", "--", *command)
    wait_for(lambda: step_of(paths) >= 30, "step 30 of the job", context=lambda: head.job("logs", "one"))
    began = time.monotonic()
    head.job("stop", "one")
    print(f"measured: job stopped: {time.monotonic() - began:.1f} s until it had ended")
    assert "saves a checkpoint, then stops" in head.job("logs", "one")
    assert (read_json(paths.status) or {})["state"] == "stopped" and step_of(paths) < STEPS
    saved = checkpoints_in(paths.folder)[-1]
    assert int(saved.name.removeprefix("step-")) >= step_of(paths), "steps that were reported are lost"

    env = {**ENVIRONMENT, "RAY_ADDRESS": head.address}
    driver = Driver(config, "jobbed", env=env)
    drivers.append(driver)
    driver.reach(step_of(paths) + 100)
    with measured(driver, "head killed and started again"):
        head.kill()
        began = time.monotonic()
        assert driver.wait() == 2 and "same command again" in driver.said, f"{driver.code}: {driver.said[-3000:]}"
        print(f"measured: head killed: {time.monotonic() - began:.1f} s until the driver gave up")
        head.start()
        drivers.append(Driver(config, "jobbed", env=env))
    drivers[-1].finish()
    assert differences(config, calm, "jobbed") == []
