"""Failures of a run in one process, each really caused: what is left, what is said, and that the end is the same.

Workers, controllers and heads fail in `test_failures_ray.py`, nodes in `test_elastic.py`.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import orchestrator
from orchestrator.checkpoint import read_state
from orchestrator.config import RunConfig, apply_settings, load_config
from orchestrator.data.corpus import Corpus
from orchestrator.tracking import find_run
from orchestrator.training.retention import checkpoints_in
from tests.conftest import TINY_MODEL
from tests.runtime.processes import Driver
from tests.runtime.sameness import differences, logged

STEPS = 90
Start = Callable[..., Driver]


@pytest.fixture(scope="module")
def config(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """What all runs here have in common, the tracking store included."""
    wide = {"block_out_channels": [64, 64]}  # the moments are the largest file by far: see `refuse_large_files`
    towers = {tower: TINY_MODEL[tower] | wide for tower in ("audio_encoder", "visual_encoder")}
    raw: dict[str, Any] = {
        "model": TINY_MODEL | towers,
        "data": {"path": str(tiny_corpus)},
        "optim": {"lr": 1e-3, "warmup_steps": 5, "schedule": "cosine"},
        "train": {"steps": STEPS, "global_batch": 8, "micro_batch": 8, "log_every": 5},
        "eval": {"every": 30, "pairs": 16, "batch": 8},
        "checkpoint": {"every": 7, "keep": 1},
        "scale": {"num_workers": 0, "use_gpu": False},
        "storage": str(tmp_path_factory.mktemp("runs")),
    }
    return load_config(raw)


@pytest.fixture
def start(config: RunConfig) -> Iterator[Start]:
    """Start a driver with some settings; none outlives the test."""
    started: list[Driver] = []

    def begin(name: str, **settings: Any) -> Driver:
        changed = apply_settings(config, {key.replace("__", "."): value for key, value in settings.items()})
        started.append(Driver(changed, name, warm=True))
        return started[-1]

    yield begin
    for driver in started:
        driver.dispose()


@pytest.fixture(scope="module")
def calm(config: RunConfig) -> str:
    """The name of the run to which nothing happens."""
    driver = Driver(config, "calm", warm=True)
    driver.finish()
    return "calm"


def test_sigterm_saves_and_stops(config: RunConfig, calm: str, start: Start) -> None:
    """As `ray job stop` and every batch system ask: the step that is under way ends, is saved, and nothing is lost."""
    driver = start("stopped")
    driver.reach(20)
    os.kill(driver.pid, signal.SIGTERM)
    assert driver.wait() == 130 and "same command again" in driver.said
    assert driver.status["state"] == "stopped" and driver.status["step"] < STEPS
    record = find_run(f"sqlite:///{driver.paths.storage}/mlflow.db", "syncnet", "stopped")
    assert record is not None and record.status == "KILLED"
    (saved,) = checkpoints_in(driver.paths.folder)[-1:]
    assert read_state(saved).step >= driver.status["step"], "steps that were reported are lost"
    again = start("stopped")
    again.finish()
    assert f"continues from {saved.name}" in again.said
    assert differences(config, calm, "stopped") == []


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(config: RunConfig, calm: str, start: Start) -> None:
    driver = start("damaged", checkpoint__keep=3)
    driver.reach(40)
    driver.kill()
    last = checkpoints_in(driver.paths.folder)[-1]
    weights = last / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 0x40  # one bit of one number, as a bad disk flips it
    weights.write_bytes(content)
    again = start("damaged", checkpoint__keep=3)
    again.finish()
    assert f"{last.name} is damaged" in again.said and "the one before is taken" in again.said
    assert (driver.paths.folder / f"damaged-{last.name}").is_dir()
    assert differences(config, calm, "damaged") == []


def test_nothing_but_damaged_checkpoints_is_an_error_and_no_new_start(start: Start) -> None:
    driver = start("ruined")
    driver.reach(20)
    driver.kill()
    for checkpoint in checkpoints_in(driver.paths.folder):
        with (checkpoint / "model.safetensors").open("r+b") as file:
            file.truncate(1000)  # as a crash of the machine leaves a file whose end was never written
    again = start("ruined")
    assert again.wait() == 2 and "damaged" in again.said


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_leaves_what_was_saved(config: RunConfig, calm: str, start: Start) -> None:
    """The file system takes no file of a checkpoint's size any more, from the middle of the run on."""
    driver = start("full", checkpoint__retry_s=1.0)
    driver.reach(20)
    refuse_large_files(driver)
    assert driver.wait() == 2
    assert "File too large" in driver.said and "checkpoint.retry_s" in driver.said
    assert driver.status["state"] == "failed"
    saved = checkpoints_in(driver.paths.folder)
    assert saved and all(orchestrator.verify(path).ok for path in saved)
    assert not [path for path in driver.paths.folder.rglob("*.safetensors") if path.parent not in saved], "half a file"
    again = start("full", checkpoint__retry_s=1.0)
    again.finish()
    assert differences(config, calm, "full") == []


@pytest.mark.slow
def test_storage_that_refuses_for_a_while_costs_nothing(config: RunConfig, calm: str, start: Start) -> None:
    driver = start("refused")
    driver.reach(20)
    refuse_large_files(driver)
    driver.until(lambda: "File too large" in driver.said, "a word about the storage")
    resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    driver.finish()
    assert differences(config, calm, "refused") == []


@pytest.mark.slow
def test_bad_numbers_in_a_clip_cost_the_steps_that_meet_them(
    config: RunConfig, tiny_corpus: Path, start: Start, tmp_path: Path
) -> None:
    shutil.copytree(tiny_corpus, tmp_path / "corpus")
    poison(tmp_path / "corpus")
    poisoned = {"data__path": str(tmp_path / "corpus")}
    start("poisoned", **poisoned).finish()
    driver = start("poisoned-killed", **poisoned)
    driver.reach(30)
    driver.kill()
    start("poisoned-killed", **poisoned).finish()
    assert differences(config, "poisoned", "poisoned-killed") == []
    skipped = [row["train/skipped"] for row in logged(config, "poisoned")["train/skipped"]]
    assert 0 < skipped[-1] < STEPS and skipped == sorted(skipped)
    end = read_state(checkpoints_in(driver.paths.folder)[-1])
    assert end.step == STEPS and all(bool(torch.isfinite(value).all()) for value in end.weights.values())


def test_weights_that_blow_up_stop_the_run_with_advice(start: Start) -> None:
    driver = start("diverged", optim__lr=1e30, optim__warmup_steps=0, train__max_bad_steps=5)
    assert driver.wait() == 2
    assert "steps in a row up to step" in driver.said and "lower `optim.lr`" in driver.said
    assert driver.status["state"] == "failed"


def refuse_large_files(driver: Driver) -> None:
    """The kernel refuses to let files grow beyond a size that only a checkpoint's moments exceed."""
    moments = checkpoints_in(driver.paths.folder)[-1] / "optimizer.safetensors"
    limit = moments.stat().st_size * 3 // 4
    assert (driver.paths.storage / "mlflow.db").stat().st_size < limit, "the tracking store would be refused too"
    resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def poison(corpus: Path) -> None:
    """One sound of one training clip becomes no number: every window that hears it has no loss."""
    opened = Corpus.open(corpus)
    clip = opened.clips("train")[0]
    mel = np.array(opened.stored(clip).mel)
    shard = corpus / clip.shard
    before, sound, after = shard.read_bytes().partition(mel.tobytes())
    assert sound
    mel[0, mel.shape[1] // 2] = np.nan
    shard.write_bytes(before + mel.tobytes() + after)
