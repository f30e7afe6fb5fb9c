"""The loop itself: it learns, it is measured at step 0, and a run that was stopped equals one that never was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.checkpoint import TrainState, read_state
from orchestrator.config import RunConfig, apply_settings
from orchestrator.data.corpus import Corpus
from orchestrator.errors import CheckpointError
from orchestrator.training.local import LocalContext, checkpoints_in
from orchestrator.training.loop import train_loop

TIMES = ("train/samples_per_s", "train/data_wait", "train/data_ready")


class Stopped(Exception):
    """Thrown by a context in place of a power cut."""


@dataclass
class Log:
    """What a run reported."""

    facts: list[Mapping[str, Any]] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)

    def exact(self) -> dict[float, dict[str, float]]:
        """The figures by step that must not depend on the machine or on restarts."""
        merged: dict[float, dict[str, float]] = {}
        for row in self.rows:
            merged.setdefault(row["step"], {}).update({k: v for k, v in row.items() if k not in TIMES})
        return merged


def run(
    config: RunConfig,
    folder: Path,
    *,
    log: Log | None = None,
    stop_at: int | None = None,
    given: TrainState | None = None,
) -> Log:
    """Run the loop in this process; `stop_at` cuts the power after the report of that step."""
    log = log or Log()

    def heard(metrics: Mapping[str, float], _: Path | None) -> None:
        log.rows.append(dict(metrics))
        if stop_at is not None and metrics["step"] >= stop_at:
            raise Stopped

    context = LocalContext(folder, on_report=heard, on_start=log.facts.append, keep=config.checkpoint.keep)
    train_loop(config, Corpus.open(config.data.path or ""), context, lambda: given)
    return log


def final(folder: Path) -> TrainState:
    return read_state(checkpoints_in(folder)[-1])


def assert_same(first: TrainState, second: TrainState) -> None:
    assert (first.step, first.samples, first.best) == (second.step, second.samples, second.best)
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert first.optimizer is not None and second.optimizer is not None
    for name, slots in first.optimizer.items():
        assert all(torch.equal(tensor, second.optimizer[name][slot]) for slot, tensor in slots.items())


def test_a_stopped_run_equals_one_that_never_stopped(tiny_config: RunConfig, tmp_path: Path) -> None:
    with_dropout = tiny_config.model.model_dump(mode="json")
    with_dropout["visual_encoder"]["dropout"] = 0.2
    config = apply_settings(tiny_config, {"model": with_dropout})
    whole = run(config, tmp_path / "whole")
    log = Log()
    for stop_at in (0, 4, 9):  # 9 is a log line between two checkpoints: the steps since 8 are lost and done again
        with pytest.raises(Stopped):
            run(config, tmp_path / "cut", log=log, stop_at=stop_at)
    run(config, tmp_path / "cut", log=log)
    assert [facts["start"]["verb"] for facts in log.facts] == ["scratch", "continue", "continue", "continue"]
    assert [facts["start"]["step"] for facts in log.facts] == [0, 0, 4, 8]
    assert_same(final(tmp_path / "whole"), final(tmp_path / "cut"))
    assert log.exact() == whole.exact()


def test_accumulation_changes_nothing_but_rounding(tiny_config: RunConfig, tmp_path: Path) -> None:
    # only the first step is compared: where a gradient is nearly zero, Adam's first steps turn rounding into a sign
    short = apply_settings(tiny_config, {"train.steps": 1, "optim.warmup_steps": 0, "train.log_every": 1})
    rows = {
        size: run(apply_settings(short, {"train.micro_batch": size}), tmp_path / str(size)).exact()
        for size in (2, 4, 8)
    }
    for key in ("train/loss", "train/grad_norm"):
        values = [rows[size][1][key] for size in rows]
        assert values == pytest.approx([values[0]] * 3, rel=1e-4)


def test_step_zero_is_measured_and_saved(tiny_config: RunConfig, tmp_path: Path) -> None:
    log = run(tiny_config, tmp_path)
    assert log.rows[0]["step"] == 0 and "val/accuracy" in log.rows[0]
    assert log.rows[0]["best/value"] == log.rows[0]["val/accuracy"]


def test_only_the_best_and_the_last_are_kept(tiny_config: RunConfig, tmp_path: Path) -> None:
    log = run(tiny_config, tmp_path)
    kept = [path.name for path in checkpoints_in(tmp_path)]
    best = int(log.rows[-1]["best/step"])
    assert kept == sorted({f"step-{best:09d}", "step-000000012"})


def test_init_fork_and_resume(tiny_config: RunConfig, tmp_path: Path) -> None:
    run(apply_settings(tiny_config, {"train.steps": 6, "optim.schedule": "constant"}), tmp_path / "source")
    source = final(tmp_path / "source")
    longer = {"start.checkpoint": "source", "optim.schedule": "constant"}
    for verb, step, restored in (("init", 0, False), ("fork", 6, False), ("resume", 6, True)):
        log = run(apply_settings(tiny_config, {**longer, "start.verb": verb}), tmp_path / verb, given=source)
        start = log.facts[0]["start"]
        assert (start["verb"], start["step"], start["optimizer"]) == (verb, step, "restored" if restored else "fresh")
        assert final(tmp_path / verb).step == 12
    straight = apply_settings(tiny_config, {"optim.schedule": "constant"})
    run(straight, tmp_path / "straight")
    assert_weights_equal(final(tmp_path / "resume"), final(tmp_path / "straight"))


def test_another_network_is_refused_before_any_tensor_is_touched(tiny_config: RunConfig, tmp_path: Path) -> None:
    run(apply_settings(tiny_config, {"train.steps": 2}), tmp_path / "source")
    other = tiny_config.model.model_dump(mode="json")
    other["audio_encoder"]["block_out_channels"] = [64, 32]
    config = apply_settings(tiny_config, {"model": other, "start.checkpoint": "x"})
    with pytest.raises(CheckpointError, match="another network"):
        run(config, tmp_path / "new", given=final(tmp_path / "source"))


def test_bf16_trains(tiny_config: RunConfig, tmp_path: Path) -> None:
    log = run(apply_settings(tiny_config, {"train.precision": "bf16", "train.steps": 4}), tmp_path)
    assert all(torch.isfinite(torch.tensor(row["train/loss"])) for row in log.rows if "train/loss" in row)
    assert all(tensor.dtype == torch.float32 for tensor in final(tmp_path).weights.values())


def assert_weights_equal(first: TrainState, second: TrainState) -> None:
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
