"""A state with a running average of its weights: that is what is judged and handed on; training goes on from both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator.checkpoint import (
    TrainState,
    diff,
    export,
    inspect,
    is_complete,
    list_states,
    load_model,
    load_state,
    normalize,
    read_manifest,
    read_state,
    save_state,
    state_hash,
    verify,
    weights_hash,
)
from orchestrator.checkpoint.manifest import digest_of
from orchestrator.config.model import StableSyncNetConfig, Wav2LipSyncNetConfig
from orchestrator.config.schema import StartConfig
from orchestrator.errors import RefusalReason
from orchestrator.models import build_meta
from orchestrator.training.start import decide_start

from .conftest import refusal


def averages_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value * 0.99 if value.is_floating_point() else value for name, value in weights.items()}


@pytest.fixture
def state(config: StableSyncNetConfig, weights: dict[str, Tensor]) -> TrainState:
    """A state in the middle of training, with an average."""
    moments = {
        name: {
            "exp_avg": weights[name] / 3,
            "exp_avg_sq": weights[name] ** 2,
            "step": torch.tensor(12.0),
        }
        for name, _ in build_meta(config).named_parameters()
    }
    return TrainState(config, weights, step=12, samples=96, optimizer=moments, ema=averages_of(weights))


@pytest.fixture
def saved(tmp_path: Path, state: TrainState) -> Path:
    save_state(state, tmp_path / "states" / "s")
    return tmp_path / "states" / "s"


def test_both_come_back(saved: Path, state: TrainState) -> None:
    back = read_state(saved)
    assert back.ema is not None and state.ema is not None
    assert weights_hash(back.weights) == weights_hash(state.weights)
    assert weights_hash(back.ema) == weights_hash(state.ema) != weights_hash(state.weights)
    assert back.judged_weights is back.ema and state_hash(back) == state_hash(state)
    assert verify(saved).ok


def test_a_reader_that_knows_no_average_refuses_it(saved: Path) -> None:
    """Such a reader takes version 2 and refuses every newer one by its number: it would take other weights."""
    raw = json.loads((saved / "manifest.json").read_text())
    assert raw["format_version"] == read_manifest(saved).version == 3


def test_without_an_average_bytes_and_hash_are_those_of_version_2(tmp_path: Path, state: TrainState) -> None:
    plain = replace(state, ema=None, optimizer=None)
    manifest = save_state(plain, tmp_path / "plain")
    raw = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    content = {
        "weights": weights_hash(plain.weights),
        "optimizer": None,
        "rng": None,
        "history": None,
        "state": digest_of(plain.plain()),
    }
    kind = {"kind": "syncnet-orchestrator.train-state", "format_version": 2}
    assert raw["content"] == content and raw["format_version"] == 2
    assert manifest.content_hash == state_hash(plain) == digest_of({**kind, **content})


def test_the_hash_covers_the_average(state: TrainState) -> None:
    other = dict(state.weights)
    hashes = {state_hash(replace(state, ema=ema)) for ema in (None, other, state.ema)}
    assert len(hashes) == 3


def test_damage_to_the_average_is_named(saved: Path) -> None:
    path = saved / "ema.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + bytes(4 * [7]))
    assert "ema.safetensors" in refusal(lambda: read_state(saved), RefusalReason.CORRUPT)
    path.write_bytes(whole[:-1])
    assert not is_complete(saved)
    path.unlink()
    assert not is_complete(saved) and not verify(saved).ok


def test_an_average_of_another_net_is_a_problem(tmp_path: Path, state: TrainState) -> None:
    assert state.ema is not None
    name = next(iter(state.ema))
    short = {key: value for key, value in state.ema.items() if key != name}
    save_state(replace(state, ema=short), tmp_path / "short")
    assert any(f"average `{name}`" in problem for problem in verify(tmp_path / "short").states[0].problems)
    bad = {**state.ema, name: torch.full_like(state.ema[name], float("nan"))}
    save_state(replace(state, ema=bad), tmp_path / "bad")
    assert any("averages hold NaN" in problem for problem in verify(tmp_path / "bad").states[0].problems)


def test_the_net_of_a_checkpoint_has_the_average(saved: Path, state: TrainState) -> None:
    assert state.ema is not None
    assert weights_hash(dict(load_model(saved).state_dict())) == weights_hash(state.ema)


@pytest.mark.parametrize("kind", ["latentsync", "safetensors", "lightning"])
def test_the_average_is_exported_without_moments(saved: Path, state: TrainState, tmp_path: Path, kind: str) -> None:
    assert state.ema is not None
    file = export(saved, kind, tmp_path / f"exported.{'safetensors' if kind == 'safetensors' else 'pt'}")
    back = load_state(file, model_config=state.model)
    assert weights_hash(back.weights) == weights_hash(state.ema) and back.optimizer is None


def test_wav2lip_gets_the_average_too(wav2lip_weights: dict[str, Tensor], tmp_path: Path) -> None:
    ema = averages_of(wav2lip_weights)
    moments = {"face_encoder.0.conv_block.0.weight": {"exp_avg": torch.ones(1), "step": torch.tensor(1.0)}}
    state = TrainState(Wav2LipSyncNetConfig(), wav2lip_weights, step=3, optimizer=moments, ema=ema)
    file: dict[str, Any] = torch.load(export(state, "wav2lip", tmp_path / "w.pth"), weights_only=True)
    assert weights_hash(file["state_dict"]) == weights_hash(ema)
    assert file["optimizer"] is None and file["global_step"] == 3


def test_a_person_is_told(saved: Path) -> None:
    report = inspect(saved)
    assert "ema" in report.present and "ema" not in report.missing
    assert any("running average" in line for line in report.lines())
    (record,) = list_states(saved.parent)
    assert record.averaged and "running average" in record.line()


def test_states_without_one_lack_nothing(tmp_path: Path, state: TrainState) -> None:
    save_state(replace(state, ema=None), tmp_path / "states" / "s")
    report = inspect(tmp_path / "states" / "s")
    assert "ema" not in report.present + report.missing
    assert not any("average" in line for line in report.lines())
    (record,) = list_states(tmp_path / "states")
    assert not record.averaged and "average" not in record.line()


def test_differences_of_the_average_are_found(saved: Path, state: TrainState, tmp_path: Path) -> None:
    assert state.ema is not None
    name = next(iter(state.ema))
    save_state(replace(state, ema={**state.ema, name: state.ema[name] + 1}), tmp_path / "other")
    (found,) = diff(saved, tmp_path / "other").tensors
    assert (found.part, found.name) == ("ema", name)
    save_state(replace(state, ema=None), tmp_path / "none")
    (field,) = diff(saved, tmp_path / "none").fields
    assert field.name == "ema" and field.b is None


def test_normalizing_it_keeps_both(saved: Path, tmp_path: Path) -> None:
    result = normalize(saved, tmp_path / "out")
    assert result.path == saved and read_state(result.path).ema is not None


def test_init_takes_what_the_source_is_judged_by(state: TrainState) -> None:
    decision, chosen = decide_start(None, state, StartConfig(checkpoint="x"))
    assert chosen is not None and chosen.weights is state.ema
    assert (chosen.ema, chosen.optimizer, chosen.step) == (None, None, 0)
    assert decision.weights == "average" and "running average" in str(decision)


@pytest.mark.parametrize("verb", ["resume", "fork"])
def test_resume_and_fork_take_both(state: TrainState, verb: Any) -> None:
    decision, chosen = decide_start(None, state, StartConfig(checkpoint="x", verb=verb))
    assert chosen is not None and chosen.weights is state.weights and chosen.ema is state.ema
    assert decision.weights == "trained"
