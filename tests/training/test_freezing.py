"""Frozen parts keep their weights, cost no gradient and no moments, and stay in eval mode; the rest trains as ever."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from orchestrator.checkpoint import TrainState, export, load_state, read_state
from orchestrator.config import RunConfig, apply_settings, load_config
from orchestrator.errors import CheckpointError, ConfigError
from orchestrator.models import build_meta, build_model
from orchestrator.training.batching import has_batch_norm
from orchestrator.training.freezing import count_parameters, count_trained, freeze, net_to_train, trained
from orchestrator.training.optimizer import build_optimizer
from orchestrator.training.rehearsal import rehearse
from orchestrator.training.retention import checkpoints_in
from orchestrator.training.snapshot import restore_moments
from orchestrator.training.speed import optimise_model
from tests.conftest import TINY_MODEL
from tests.training.test_loop import Log, Stopped, assert_same, cut_at, final, run, stop_at
from tests.training.test_speed import WITH_BATCH_NORM, forward_and_backward, with_dropout

CPU = torch.device("cpu")
FACE = "visual_encoder.down_blocks.0"
CONFIG = load_config({"model": TINY_MODEL, "data": {"path": "unused"}})


def names(entries: list[str]) -> set[str]:
    """The parameters of the small net that entries freeze."""
    net = net_to_train(apply_settings(CONFIG, {"optim.freeze": entries}))
    return {name for name, parameter in net.named_parameters() if not parameter.requires_grad}


def starting(*prefixes: str) -> set[str]:
    return {name for name, _ in build_meta(CONFIG.model).named_parameters() if name.startswith(prefixes)}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], set()),
        (["audio_encoder"], starting("audio_encoder.")),
        ([FACE, "audio_encoder.conv_in"], starting(f"{FACE}.", "audio_encoder.conv_in.")),
        (["audio_encoder.conv_in.bias"], {"audio_encoder.conv_in.bias"}),
        (["*.conv_in"], starting("audio_encoder.conv_in.", "visual_encoder.conv_in.")),
        (["visual_encoder.down_blocks.[0-1].norm?"], starting(f"{FACE}.norm", "visual_encoder.down_blocks.1.norm")),
        (["audio_encoder", "audio_encoder.conv_in"], starting("audio_encoder.")),
    ],
    ids=lambda value: str(len(value)) if isinstance(value, set) else str(value),
)
def test_an_entry_names_a_part_and_all_that_lies_below(entries: list[str], expected: set[str]) -> None:
    assert names(entries) == expected


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["audio_encodr"], ["`audio_encodr`, which is no part of stable_syncnet; did you mean `audio_encoder`?"]),
        (["conv_in"], ["`conv_in`, which is no part of stable_syncnet"]),
        (["audio_encoder.conv_out.*", ""], ["`audio_encoder.conv_out.*`, which is", "``, which is no part"]),
        ([f"{FACE}.dropout"], [f"`{FACE}.dropout`, which has no weights"]),
        (["*"], ["must leave something to train, but freezes all 48 parameters"]),
        (["audio_encoder", "visual_encoder"], ["must leave something to train"]),
    ],
    ids=str,
)
def test_what_freezes_nothing_or_everything_is_refused(entries: list[str], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        names(entries)
    assert len(caught.value.problems) == len(expected) and caught.value.hint
    for problem, text in zip(caught.value.problems, expected, strict=True):
        assert problem.startswith("`optim.freeze`") and text in problem


def test_frozen_batch_norm_neither_moves_nor_mixes_samples() -> None:
    """Whatever mode the net around it is put into."""
    config = apply_settings(WITH_BATCH_NORM, {"optim.freeze": ["face_encoder"]})
    model = build_model(config.model, seed=3)
    freeze(model, config.optim.freeze)
    model.eval()
    model.train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    forward_and_backward(model, config)
    moved = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith("audio_encoder.")}
    frames = torch.rand(3, *model.input_shape.frames)
    torch.testing.assert_close(model.embed_frames(frames)[:1], model.embed_frames(frames[:1]))
    assert has_batch_norm(model) and model.training and not model.face_encoder.training
    assert not has_batch_norm(net_to_train(apply_settings(config, {"optim.freeze": ["*.*.conv_block.1"]})))


def test_dropout_is_off_where_it_is_frozen() -> None:
    model = build_model(with_dropout().model)
    freeze(model, [FACE])
    drops = {name: part.training for name, part in model.named_modules() if isinstance(part, nn.Dropout)}
    assert {name.startswith(FACE) for name in drops} == {True, False}
    assert all(training != name.startswith(FACE) for name, training in drops.items())


def test_backward_passes_end_where_nothing_further_down_trains() -> None:
    kept: dict[str, int] = {}
    for name, entries in {"all": [], "one": ["visual_encoder"], "early": ["visual_encoder.conv_in", FACE]}.items():
        model = build_model(CONFIG.model, seed=3)
        freeze(model, entries)
        kept[name] = forward_and_backward(model, CONFIG)
        assert all((parameter.grad is None) != parameter.requires_grad for parameter in model.parameters())
    assert not model.visual_encoder.down_blocks[0](torch.rand(2, 32, 16, 32)).requires_grad
    assert kept["one"] < kept["early"] < 0.8 * kept["all"]


@pytest.mark.parametrize("settings", [{"speed.gradient_checkpointing": True}, {"speed.compile": True}], ids=str)
def test_what_makes_training_cheaper_changes_no_gradient(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    gradients = []
    for changes in ({}, {"train.micro_batch": 4, **settings}):
        config, notes = apply_settings(with_dropout(), changes), list[str]()
        model = build_model(config.model, seed=3)
        # a part behind one that trains is passed through by gradients
        freeze(model, ["audio_encoder", "visual_encoder.conv_in", "visual_encoder.down_blocks.1"])
        optimise_model(model, config, CPU, notes.append)
        forward_and_backward(model, config)
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        assert not notes
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-7)


FROZEN = ("audio_encoder", f"{FACE}.conv1")


@pytest.mark.parametrize("settings", [{}, {"train.ema_decay": 0.9, "speed.gradient_checkpointing": True}], ids=str)
def test_a_frozen_run_moves_nothing_else_and_continues_exactly(
    tiny_config: RunConfig, tmp_path: Path, settings: dict[str, Any]
) -> None:
    model = with_dropout_everywhere(tiny_config)
    config = apply_settings(tiny_config, {"model": model, "optim.freeze": FROZEN, **settings})
    whole, log = run(config, tmp_path / "whole"), Log()
    with pytest.raises(Stopped):
        run(config, tmp_path / "cut", log=log, ask=cut_at(5))
    run(config, tmp_path / "cut", log=log, ask=stop_at(7))
    run(config, tmp_path / "cut", log=log)
    state = final(tmp_path / "whole")
    assert_same(state, final(tmp_path / "cut"))
    assert log.exact() == whole.exact()
    begun = build_model(config.model, seed=config.train.seed).state_dict()
    assert {name for name in begun if torch.equal(state.judged_weights[name], begun[name])} == {
        name for name in begun if is_frozen(name)
    }
    assert state.optimizer is not None and not any(map(is_frozen, state.optimizer))
    ((note,),) = [facts["notes"] for facts in whole.facts if "notes" in facts]
    some, every = count_trained(net_to_train(config)), count_parameters(net_to_train(config))
    assert note == f"`optim.freeze`: {some:,} of {every:,} parameters train" and some < every
    assert [len(facts["notes"]) for facts in log.facts if "notes" in facts] == [1, 1, 1]


def test_the_gradients_of_what_is_frozen_are_not_in_the_norm(tiny_config: RunConfig, tmp_path: Path) -> None:
    one_step = {"train.steps": 1, "train.log_every": 1, "optim.warmup_steps": 0, "optim.grad_clip_norm": 1e-3}
    config = apply_settings(tiny_config, one_step)
    norms = []
    for entries in ([], ["audio_encoder"], ["visual_encoder"]):
        log = run(apply_settings(config, {"optim.freeze": entries}), tmp_path / "".join(["run", *entries]))
        norms.append(log.exact()[1]["train/grad_norm"])
    # without dropout the gradients of both towers together are those of the net
    assert norms[0] == pytest.approx(math.hypot(*norms[1:]), rel=1e-4) and min(norms) > 0


def test_a_state_is_resumed_frozen_and_thawed_again(tiny_config: RunConfig, tmp_path: Path) -> None:
    plain = apply_settings(tiny_config, {"optim.schedule": "constant", "train.steps": 4, "train.ema_decay": 0.5})
    resumed = apply_settings(plain, {"start.checkpoint": "x", "start.verb": "resume", "train.steps": 8})
    run(plain, tmp_path / "plain")
    first = final(tmp_path / "plain")
    log = run(apply_settings(resumed, {"optim.freeze": FROZEN}), tmp_path / "frozen", given=first)
    frozen = {name for name in first.optimizer or {} if is_frozen(name)}
    assert notes_of(log)[1:] == [
        f"the state's moments of {len(frozen)} parameters are left out, because these are frozen now"
    ]
    second = final(tmp_path / "frozen")
    assert second.optimizer is not None and second.ema is not None
    assert steps_of(second) == {8.0} and not frozen & second.optimizer.keys()
    # what was averaged before is judged as it trains now: the average of what does not move is itself
    assert all(torch.equal(second.weights[name], first.weights[name]) for name in frozen)
    assert all(torch.equal(second.ema[name], first.weights[name]) for name in frozen)
    log = run(apply_settings(resumed, {"train.steps": 12}), tmp_path / "thawed", given=second)
    count, all_of = len(frozen), len(dict(build_meta(plain.model).named_parameters()))
    assert notes_of(log) == [
        f"the optimizer starts fresh for {count} of {all_of} parameters that train, the first is `{min(frozen)}`: "
        "the state has no moments for them"
    ]
    third = final(tmp_path / "thawed")
    assert third.optimizer is not None and steps_of(third) == {4.0, 12.0}
    assert {name for name, slots in third.optimizer.items() if slots["step"] == 4} == frozen


def test_moments_of_another_net_are_still_refused() -> None:
    model = build_model(CONFIG.model)
    moments = {name: {"exp_avg": torch.zeros(p.shape)} for name, p in model.named_parameters()}
    for name, slots in (("nothing.weight", {}), ("audio_encoder.norm_out.bias", {"exp_avg": torch.zeros(3)})):
        with pytest.raises(CheckpointError, match=f"1 parameters differ, the first is {name}"):
            restore_moments(model, build_optimizer(model, CONFIG.optim), {**moments, name: slots})


def test_an_entry_that_fits_nothing_stops_the_run_before_it_begins(tiny_config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean `audio_encoder`\?"):
        run(apply_settings(tiny_config, {"optim.freeze": ["audio_encodr"]}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_frozen_state_is_exported_like_any_other(tiny_config: RunConfig, tmp_path: Path) -> None:
    run(apply_settings(tiny_config, {"train.steps": 2, "optim.freeze": FROZEN}), tmp_path / "run")
    checkpoint = checkpoints_in(tmp_path / "run")[-1]
    for kind in ("latentsync", "lightning", "safetensors"):
        file = export(checkpoint, kind, tmp_path / kind)
        back = load_state(file, model_config=tiny_config.model)
        assert all(torch.equal(value, back.weights[name]) for name, value in read_state(checkpoint).weights.items())


def test_nets_to_look_at_are_shared_but_not_between_settings() -> None:
    frozen = net_to_train(apply_settings(CONFIG, {"optim.freeze": FROZEN}))
    assert len(trained(frozen)) < len(trained(net_to_train(CONFIG))) == len(list(frozen.parameters()))


def test_a_rehearsal_works_with_a_whole_tower_frozen() -> None:
    model = build_model(CONFIG.model)
    freeze(model, ["visual_encoder"])
    rehearse(model, CONFIG, CPU, batch=2)
    assert all(parameter.grad is None for parameter in model.parameters())


def with_dropout_everywhere(config: RunConfig) -> dict[str, Any]:
    model: dict[str, Any] = config.model.model_dump(mode="json")
    for part in ("audio_encoder", "visual_encoder"):
        model[part]["dropout"] = 0.2
    return model


def is_frozen(name: str) -> bool:
    return name.startswith(FROZEN)


def notes_of(log: Log) -> list[str]:
    return [note for facts in log.facts for note in facts.get("notes", ())]


def steps_of(state: TrainState) -> set[float]:
    assert state.optimizer is not None
    return {float(slots["step"]) for slots in state.optimizer.values()}
