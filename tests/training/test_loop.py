"""The loop itself: it learns, it is measured at step 0, and a run that was stopped equals one that never was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.checkpoint import TrainState, read_state
from orchestrator.config import RunConfig, apply_settings
from orchestrator.data.corpus import Corpus
from orchestrator.data.loader import Batch, TrainLoader
from orchestrator.errors import CheckpointError, RunError
from orchestrator.runtime.evaluate import evaluate
from orchestrator.training.context import Request
from orchestrator.training.local import LocalContext
from orchestrator.training.loop import train_loop
from orchestrator.training.retention import checkpoints_in
from tests.runtime.sameness import TIMES


class Stopped(Exception):
    """Thrown by a context in place of a power cut."""


@dataclass
class Log:
    """What a run reported."""

    facts: list[Mapping[str, Any]] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

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
    given: TrainState | None = None,
    ask: Callable[[int], Request] | None = None,
) -> Log:
    """Run the loop in this process.

    Args:
        ask: what the surroundings ask for after a step.
    """
    log = log or Log()
    context = LocalContext(
        folder,
        settings=config.checkpoint,
        on_report=lambda metrics: log.rows.append(dict(metrics)),
        on_announce=log.facts.append,
        tell=log.told.append,
    )
    if ask is not None:
        context.poll = ask  # type: ignore[method-assign]
    try:
        train_loop(config, Corpus.open(config.data.path or ""), context, lambda: given)
    finally:
        context.finish()
    return log


def cut_at(last: int) -> Callable[[int], Request]:
    """A power cut after a step, before anything is saved of it."""

    def ask(step: int) -> Request:
        if step == last:
            raise Stopped
        return Request()

    return ask


def stop_at(last: int) -> Callable[[int], Request]:
    """An orderly stop after a step; and a checkpoint after step 4, which nobody had planned."""
    return lambda step: Request(save=step in (4, last), stop=step == last)


def final(folder: Path) -> TrainState:
    return read_state(checkpoints_in(folder)[-1])


def assert_same(first: TrainState, second: TrainState) -> None:
    assert (first.step, first.samples, first.best) == (second.step, second.samples, second.best)
    assert (first.history, first.progress) == (second.history, second.progress)
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
    for last in (1, 5, 9):  # the steps since the last checkpoint are lost and done again
        with pytest.raises(Stopped):
            run(config, tmp_path / "cut", log=log, ask=cut_at(last))
    run(config, tmp_path / "cut", log=log)
    starts = [facts["start"] for facts in log.facts if "start" in facts]
    assert [start["verb"] for start in starts] == ["scratch", "continue", "continue", "continue"]
    assert [start["step"] for start in starts] == [0, 0, 4, 8]
    assert_same(final(tmp_path / "whole"), final(tmp_path / "cut"))
    assert log.exact() == whole.exact()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train.ema_decay": 0.9, "train.micro_batch": 3},
        {"loss.name": "info_nce", "loss.group": 4, "checkpoint.metric": "val/auc"},
    ],
    ids=str,
)
def test_a_checkpoint_may_come_after_any_step(tiny_config: RunConfig, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Also where neither a checkpoint nor a log line is due: what is logged later does not change."""
    config = apply_settings(tiny_config, settings)
    whole, log = run(config, tmp_path / "whole"), Log()
    for last in (1, 2, 5, 7, 11):
        run(config, tmp_path / "cut", log=log, ask=stop_at(last))
        assert final(tmp_path / "cut").step == last
    run(config, tmp_path / "cut", log=log)
    ends = [facts["ended"] for facts in log.facts if "ended" in facts]
    assert [(ended["state"], ended["step"]) for ended in ends] == [("stopped", step) for step in (1, 2, 5, 7, 11)]
    assert_same(final(tmp_path / "whole"), final(tmp_path / "cut"))
    assert log.exact() == whole.exact()


def test_a_step_that_is_no_number_is_skipped_and_counted(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = apply_settings(tiny_config, {"train.log_every": 1, "optim.schedule": "constant"})
    clean, read = run(config, tmp_path / "clean"), TrainLoader.__next__

    def spoiled(loader: TrainLoader) -> list[Batch]:
        batches = read(loader)
        if loader.taken in (4, 6, 20):  # two micro-batches a step: steps 2, 3 and 10
            batches[0].mel[0, 0, 0, 0] = float("nan")
        return batches

    monkeypatch.setattr(TrainLoader, "__next__", spoiled)
    rows = run(config, tmp_path / "spoiled").exact()
    assert [rows[step]["train/skipped"] for step in (1, 2, 3, 9, 10, 12)] == [0, 1, 2, 2, 3, 3]
    assert "train/loss" not in rows[2] and rows[1]["train/loss"] == clean.exact()[1]["train/loss"]
    state = final(tmp_path / "spoiled")
    assert all(tensor.isfinite().all() for tensor in state.weights.values())
    # Adam counts the steps that it took
    assert state.optimizer is not None and {float(slots["step"]) for slots in state.optimizer.values()} == {9.0}


def test_too_many_steps_that_are_no_number_end_the_run(tiny_config: RunConfig, tmp_path: Path) -> None:
    settings = {"optim.lr": 1e30, "optim.warmup_steps": 0, "train.max_bad_steps": 5, "train.steps": 60}
    with pytest.raises(
        RunError, match=r"steps in a row up to step \d+ had a loss or gradient that is no finite number"
    ):
        run(apply_settings(tiny_config, settings), tmp_path)


def test_it_ends_by_itself_where_it_was_told_to(tiny_config: RunConfig, tmp_path: Path) -> None:
    often = {"eval.every": 2, "train.steps": 40, "optim.lr": 1e-12}
    for name, settings, why in (
        ("patient", {"train.patience": 3}, "3 validations without a better val/accuracy"),
        ("chance", {"train.stop_at_chance": 4}, "4 validations in a row found it AT_CHANCE"),
    ):
        config = apply_settings(tiny_config, {**often, **settings})
        log = run(config, tmp_path / name)
        ended = log.facts[-1]["ended"]
        assert ended["state"] == "stopped early" and why in ended["why"] and ended["step"] < 40
        assert final(tmp_path / name).step == ended["step"] == log.rows[-1]["step"]
        again = run(config, tmp_path / name)
        assert {row["step"] for row in again.rows} == {ended["step"]} and again.facts[-1]["ended"] == ended


def test_the_average_is_what_is_validated(tiny_config: RunConfig, tmp_path: Path) -> None:
    plain = run(tiny_config, tmp_path / "plain")
    averaged = run(apply_settings(tiny_config, {"train.ema_decay": 0.999}), tmp_path / "averaged")
    first, second = plain.exact(), averaged.exact()
    assert first[12]["train/loss"] == second[12]["train/loss"] and first[12]["val/loss"] != second[12]["val/loss"]
    checkpoint, data = checkpoints_in(tmp_path / "averaged")[-1], tiny_config.data.path or ""
    judged = evaluate(checkpoint, data, pairs=16, batch=8).metrics["loss"]
    assert judged == pytest.approx(second[12]["val/loss"], abs=1e-6)


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


@pytest.mark.parametrize("verb", ["scratch", "init", "resume"])
def test_a_run_of_no_steps_judges_and_saves_what_it_starts_from(
    tiny_config: RunConfig, tmp_path: Path, verb: str
) -> None:
    longer = apply_settings(tiny_config, {"train.ema_decay": 0.5})
    run(longer, tmp_path / "source")
    source = None if verb == "scratch" else final(tmp_path / "source")
    start = {} if source is None else {"start.checkpoint": "source", "start.verb": verb}
    config = apply_settings(tiny_config, {"train.steps": 0, "train.patience": 1, **start})
    log, step = run(config, tmp_path / "none", given=source), 12 if verb == "resume" else 0
    assert [row["step"] for row in log.rows] == [step] and "val/accuracy" in log.rows[0]
    assert not any("ended" in facts for facts in log.facts)
    (checkpoint,), state = checkpoints_in(tmp_path / "none"), final(tmp_path / "none")
    assert (state.step, state.best is not None, state.optimizer is None) == (step, True, verb != "resume")
    if verb == "init":  # what the source is judged by is what is judged and saved here
        assert source is not None and source.ema is not None
        assert all(torch.equal(value, source.ema[name]) for name, value in state.weights.items())
        report = evaluate(tmp_path / "source" / "step-000000012", tiny_config.data.path or "", pairs=16, batch=8)
        assert log.rows[0]["val/loss"] == pytest.approx(report.metrics["loss"], abs=1e-6)  # of other batches
    again = run(config, tmp_path / "none", given=source)
    assert again.facts[0]["start"]["verb"] == "continue" and again.exact() == log.exact()
    assert checkpoints_in(tmp_path / "none") == [checkpoint]


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


def test_a_resumed_step_is_one_validation(tiny_config: RunConfig, tmp_path: Path) -> None:
    run(apply_settings(tiny_config, {"train.steps": 6}), tmp_path / "source")
    config = apply_settings(tiny_config, {"start.checkpoint": "source", "start.verb": "resume"})
    source = final(tmp_path / "source")
    log = run(config, tmp_path / "resume", given=source)
    assert [row["step"] for row in final(tmp_path / "resume").history] == [0, 6, 12]
    # a foreign file's history has rows of its own making
    foreign = [{"step": 3, "train/loss": 0.7}, {"step": 6, "val/loss": 0.7}]
    run(config, tmp_path / "foreign", given=replace(source, history=foreign, progress={}))
    assert [row["step"] for row in final(tmp_path / "foreign").history] == [3, 6, 12]
    # and one that has nothing left to do says so
    log = run(apply_settings(config, {"train.steps": 4}), tmp_path / "beyond", given=source)
    assert log.facts[0]["notes"] == ["nothing is left to train: `train.steps` is 4, and 6 were taken"]


def test_every_validation_is_judged_aloud(tiny_config: RunConfig, tmp_path: Path) -> None:
    log = run(apply_settings(tiny_config, {"optim.lr": 1e-12}), tmp_path)
    verdicts = [facts["verdict"] for facts in log.facts if "verdict" in facts]
    assert [verdict["state"] for verdict in verdicts] == ["AT_CHANCE"] * 3
    assert all(f"at step {step} " in verdict["why"] for step, verdict in zip((0, 6, 12), verdicts, strict=True))


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
