"""The loop itself in a group of workers: DDP and shards, stopped and continued under the other strategy.

The workers are processes in a gloo group; what Ray does around them is tested in `tests/runtime`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from orchestrator.checkpoint import TrainState, read_state
from orchestrator.config import RunConfig, apply_settings, load_config
from orchestrator.config.schema import CheckpointConfig
from orchestrator.data.corpus import Corpus
from orchestrator.models import SyncNet, build_model
from orchestrator.training.context import Request
from orchestrator.training.loop import train_loop
from orchestrator.training.parallel import wrap
from orchestrator.training.retention import checkpoints_in
from orchestrator.training.saver import Saver, latest_undamaged
from tests.conftest import TINY_MODEL
from tests.runtime.sameness import TIMES

pytestmark = pytest.mark.slow  # two processes, a dozen times, on few cores
WORLD, STEPS = 2, 9
RUNS = {  # of each run: the strategy, and the step after which it stops
    "ddp": [("ddp", STEPS)],
    "ddp-stopped": [("ddp", 2), ("ddp", 5), ("ddp", STEPS)],
    "fsdp": [("fsdp", STEPS)],
    "fsdp-stopped": [("fsdp", 2), ("fsdp", 5), ("fsdp", STEPS)],
    "both": [("fsdp", 2), ("ddp", 5), ("fsdp", STEPS)],
    "frozen-ddp": [("ddp", STEPS)],
    "frozen-ddp-stopped": [("ddp", 5), ("ddp", STEPS)],
    "frozen-fsdp": [("fsdp", STEPS)],
    "frozen-fsdp-stopped": [("fsdp", 5), ("fsdp", STEPS)],
}
FROZEN = ["audio_encoder", "visual_encoder.conv_in", "visual_encoder.down_blocks.0.conv1", "visual_encoder.norm_out"]
"""A whole tower, what comes first and last in the other one, and, in its first block, a part between others."""
TOLERANCE = 1e-5
"""Largest difference of a loss between the strategies, and between one worker and several: sums in another order."""


class GroupContext:
    """A `TrainContext` of one of several workers, which is asked to stop after a step."""

    device = torch.device("cpu")

    def __init__(self, folder: Path, config: RunConfig, stop: int) -> None:
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world_size = dist.get_world_size() if dist.is_initialized() else 1
        self._folder, self._config, self._stop = folder, config, stop
        self._saver = Saver(folder, settings=CheckpointConfig(), tell=print) if self.rank == 0 else None

    def latest(self) -> TrainState | None:
        return latest_undamaged(self._folder, print)

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        assert isinstance(model, SyncNet)
        return wrap(model, self._config, self.device)

    def announce(self, facts: Mapping[str, object]) -> None:
        """Nobody is told."""

    def report(self, metrics: Mapping[str, float]) -> None:
        if self.rank == 0:
            with (self._folder / "rows.jsonl").open("a") as file:
                file.write(json.dumps({key: value for key, value in metrics.items() if key not in TIMES}) + "\n")

    def save(self, state: TrainState) -> None:
        assert self._saver is not None
        self._saver.save(state)

    def poll(self, step: int) -> Request:
        stop = step == self._stop
        return Request(save=stop, stop=stop)

    def alive(self) -> None:
        """Nobody watches."""

    def finish(self) -> None:
        if self._saver is not None:
            self._saver.wait()


@pytest.fixture(scope="module")
def runs(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all `RUNS`, and `alone` and `frozen-alone`, by one worker."""
    folder = tmp_path_factory.mktemp("group")
    mp.spawn(_worker, args=(str(tiny_corpus), str(folder)), nprocs=WORLD)
    for name in ("alone", "frozen-alone"):
        _run(tiny_corpus, folder / name, [("ddp", STEPS)])
    return folder


def _worker(rank: int, corpus: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    for name, parts in RUNS.items():
        _run(Path(corpus), Path(folder) / name, parts)
    dist.barrier()
    dist.destroy_process_group()


def _run(corpus: Path, folder: Path, parts: list[tuple[str, int]]) -> None:
    folder.mkdir(exist_ok=True)
    for strategy, stop in parts:
        frozen = FROZEN if folder.name.startswith("frozen") else []
        config = apply_settings(_config(corpus), {"scale.strategy": strategy, "optim.freeze": frozen})
        train_loop(config, Corpus.open(corpus), GroupContext(folder, config, stop), lambda: None)


def _config(corpus: Path) -> RunConfig:
    # a norm over the one number of a channel is nothing but rounding, which Adam turns into steps
    wide = {part: TINY_MODEL[part] | {"block_out_channels": [64, 128]} for part in TINY_MODEL if "encoder" in part}
    raw: dict[str, Any] = {
        "model": TINY_MODEL | wide,
        "data": {"path": str(corpus), "loader_threads": 0},
        "optim": {"lr": 1e-4},
        # shares of 3 and 4 samples, in two micro-batches each
        "train": {"steps": STEPS, "global_batch": 7, "micro_batch": 2, "log_every": 4, "ema_decay": 0.9},
        "eval": {"every": 6, "pairs": 6, "batch": 2},
        "scale": {"num_workers": WORLD, "use_gpu": False},
    }
    return load_config(raw)


def final(folder: Path) -> TrainState:
    return read_state(checkpoints_in(folder)[-1])


def rows(folder: Path) -> dict[int, dict[str, float]]:
    """The figures by step."""
    found: dict[int, dict[str, float]] = {}
    for line in (folder / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(int(row["step"]), {}).update(row)
    return found


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "frozen-ddp", "frozen-fsdp"])
def test_a_stopped_group_equals_one_that_never_stopped(runs: Path, strategy: str) -> None:
    whole, stopped = final(runs / strategy), final(runs / f"{strategy}-stopped")
    assert (whole.step, whole.samples, whole.history) == (STEPS, 7 * STEPS, stopped.history)
    assert whole.progress == stopped.progress and whole.best == stopped.best
    assert whole.ema is not None and stopped.ema is not None and whole.optimizer and stopped.optimizer
    for name, value in whole.weights.items():
        assert torch.equal(value, stopped.weights[name]) and torch.equal(whole.ema[name], stopped.ema[name])
    for name, slots in whole.optimizer.items():
        assert all(torch.equal(value, stopped.optimizer[name][slot]) for slot, value in slots.items())
    assert rows(runs / strategy) == rows(runs / f"{strategy}-stopped")


@pytest.mark.parametrize("other", ["fsdp", "both", "alone", "frozen-fsdp", "frozen-alone"])
def test_strategies_and_numbers_of_workers_mean_the_same_run(runs: Path, other: str) -> None:
    first = "frozen-ddp" if other.startswith("frozen") else "ddp"
    one, two = rows(runs / first), rows(runs / other)
    assert one.keys() == two.keys() == {0, 4, 6, 8, STEPS}
    for step, figures in one.items():
        assert figures.keys() == two[step].keys()
        for name in ("train/loss", "val/loss"):
            assert figures.get(name, 0) == pytest.approx(two[step].get(name, 0), abs=TOLERANCE)
    assert final(runs / other).samples == final(runs / first).samples


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_what_is_frozen_keeps_its_weights_on_many_workers(runs: Path, strategy: str) -> None:
    state, begun = final(runs / f"frozen-{strategy}"), build_model(_config(Path()).model, seed=42).state_dict()
    assert state.optimizer is not None and state.ema is not None
    for name, value in state.weights.items():
        frozen = name.startswith(tuple(FROZEN))
        assert torch.equal(value, begun[name]) == torch.equal(state.ema[name], value) == frozen, name
        assert (name in state.optimizer) != frozen, name
