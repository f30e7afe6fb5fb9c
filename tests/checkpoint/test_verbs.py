"""list, verify, diff: what is there, is it whole, and how do two differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from orchestrator.checkpoint import TrainState, diff, list_states, normalize, read_state, save_state, verify
from orchestrator.checkpoint.compare import Difference, compare
from orchestrator.checkpoint.partials import partial_directory, partial_name, remove_abandoned
from orchestrator.config.model import StableSyncNetConfig
from orchestrator.errors import CheckpointError, RefusalReason

from .conftest import refusal

Save = Callable[..., Path]
Weights = dict[str, Tensor]


@pytest.fixture
def state(config: StableSyncNetConfig, weights: Weights) -> TrainState:
    name = "audio_encoder.conv_in.weight"
    tensor = weights[name]
    moments = {"exp_avg": tensor * 2, "exp_avg_sq": tensor**2, "step": torch.tensor(12.0)}
    return TrainState(
        config,
        weights,
        step=12,
        optimizer={name: moments},
        rng={"rank0/cpu": torch.zeros(16, dtype=torch.uint8)},
        history=[{"step": 1, "train/loss": 0.69}],
    )


def flip(path: Path) -> None:
    """Change one bit near the end of a file."""
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)


def test_a_list_tells_everything_and_reads_no_tensor(save: Save, weights: Weights, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = normalize(save({"state_dict": weights, "global_step": 5}, "net.pt"), out)
    flip(result.path / "model.safetensors")  # which is not looked at
    (record,) = list_states(out)
    assert (record.name, record.content_hash, record.file) == (result.state_hash, result.state_hash, "net.pt")
    assert (record.step, record.parameters, record.complete) == (5, result.report.parameters, True)
    assert record.architecture == "stable_syncnet (16_pixel_attn layout)"
    assert record.size == sum(f.stat().st_size for f in result.path.iterdir() if f.name != "manifest.json")
    assert record.created is not None and record.created == (result.path / "manifest.json").stat().st_mtime
    assert list_states(result.path) == [record] and json.dumps(record.to_dict())
    assert all(fact in record.line() for fact in (record.name, "step 5", "net.pt"))


def test_what_is_not_whole_is_listed_as_such(state: TrainState, tmp_path: Path) -> None:
    for name in ("good", "short", "cut"):
        save_state(state, tmp_path / name)
    (tmp_path / "short" / "rng.safetensors").unlink()
    (tmp_path / "cut" / "manifest.json").unlink()
    (tmp_path / ".partial-x").mkdir()
    (tmp_path / "something else").mkdir()
    records = {record.name: record for record in list_states(tmp_path)}
    assert {name for name, record in records.items() if record.complete} == {"good"}
    assert set(records) == {"good", "short", "cut", ".partial-x"}
    assert all(record.problem for record in records.values() if not record.complete)
    assert verify(tmp_path).leftovers == (".partial-x",)
    refusal(lambda: list_states(tmp_path / "none"), RefusalReason.MISSING)


def test_all_problems_are_told_at_once(state: TrainState, tmp_path: Path) -> None:
    manifest = save_state(state, tmp_path / "ckpt")
    assert verify(tmp_path / "ckpt").ok and verify(tmp_path / "ckpt").states[0].content_hash == manifest.content_hash
    flip(tmp_path / "ckpt" / "model.safetensors")
    (tmp_path / "ckpt" / "rng.safetensors").unlink()
    (tmp_path / "ckpt" / "history.csv").write_text("step\n")
    (tmp_path / "ckpt" / "notes.txt").write_text("mine")
    (check,) = verify(tmp_path / "ckpt").states
    assert len(check.problems) == 3
    assert all(any(n in p for p in check.problems) for n in ("model.safetensors", "rng.safetensors", "history.csv"))
    assert len(check.notes) == 1 and "notes.txt" in check.notes[0]
    (tmp_path / "ckpt" / "manifest.json").unlink()
    (tmp_path / "ckpt" / "optimizer.safetensors").write_bytes(b"nothing")
    problems = verify(tmp_path / "ckpt").states[0].problems
    assert len(problems) == 2 and "manifest.json" in problems[0] and "optimizer.safetensors" in problems[1]


def test_a_folder_is_verified_state_by_state(state: TrainState, tmp_path: Path) -> None:
    for step in range(3):
        save_state(replace(state, step=step), tmp_path / f"step-{step}")
    flip(tmp_path / "step-1" / "state.json")
    report = verify(tmp_path)
    assert [check.ok for check in report.states] == [True, False, True] and not report.ok
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False
    assert sum("problem:" in line for line in report.lines()) == len(report.states[1].problems) > 0
    (tmp_path / "empty").mkdir()
    refusal(lambda: verify(tmp_path / "empty"), RefusalReason.NOT_A_CHECKPOINT)


def test_what_is_whole_must_also_make_sense(state: TrainState, tmp_path: Path) -> None:
    name = "audio_encoder.conv_in.weight"
    zeros = {slot: torch.zeros_like(state.weights[name]) for slot in ("exp_avg", "exp_avg_sq")}
    changes = {
        "zero": {"optimizer": {name: {**zeros, "step": torch.tensor(9.0)}}},
        "nobody": {"optimizer": {"nobody.weight": {**zeros, "step": torch.tensor(0.0)}}},
        "infinite": {"weights": {**state.weights, name: state.weights[name] / 0}},
        "other shape": {"weights": {**state.weights, name: torch.zeros(2)}},
        "fewer": {"weights": {n: t for n, t in state.weights.items() if n != name}},
    }
    for folder, change in changes.items():
        save_state(replace(state, **change), tmp_path / folder)
    report = verify(tmp_path)
    assert {Path(check.path).name: len(check.problems) for check in report.states} == dict.fromkeys(changes, 1)


def test_a_directory_under_the_name_of_another_is_noticed(state: TrainState, tmp_path: Path) -> None:
    save_state(state, tmp_path / ("0" * 64))
    (check,) = verify(tmp_path).states
    assert len(check.problems) == 1 and "another state than its name says" in check.problems[0]


def test_a_file_and_what_was_made_of_it_do_not_differ(save: Save, weights: Weights, tmp_path: Path) -> None:
    path = save({"state_dict": {f"module.{n}": t for n, t in weights.items()}, "global_step": 5})
    report = diff(path, normalize(path, tmp_path / "out").path)
    assert report.same and report.equal["weights"] == len(weights) and report.lines()[-1] == "no difference"


def test_differences_have_figures(save: Save, weights: Weights) -> None:
    a, b, c, *_ = (name for name, tensor in weights.items() if tensor.ndim == 4)
    changed = {**weights, a: weights[a] * 1.5, b: weights[b].half(), c: -weights[c]}
    first, second = save({"state_dict": weights, "global_step": 5}), save({"state_dict": changed}, "other.pt")
    report = diff(first, second)
    assert [(field.name, field.a, field.b) for field in report.fields] == [("step", 5, 0)]
    found = {tensor.name: tensor for tensor in report.tensors}
    assert {name: tensor.kind for name, tensor in found.items()} == {
        a: Difference.VALUES, b: Difference.DTYPE, c: Difference.VALUES
    }  # fmt: skip
    assert found[a].max_abs == pytest.approx(float(weights[a].abs().max()) / 2)
    assert found[a].mean_abs == pytest.approx(float(weights[a].abs().mean()) / 2, rel=1e-5)
    assert found[a].relative == pytest.approx(0.5, rel=1e-5) and found[a].cosine == pytest.approx(1)
    assert found[c].cosine == pytest.approx(-1) and found[c].relative == pytest.approx(2)
    assert found[b].max_abs is not None and 0 < found[b].max_abs < 1e-3 and found[b].b.startswith("F16")
    assert report.equal["weights"] == len(weights) - 3
    assert json.loads(json.dumps(report.to_dict()))["same"] is False


def test_every_part_is_compared(state: TrainState) -> None:
    name = "audio_encoder.conv_in.weight"
    assert state.optimizer is not None and state.rng is not None
    moments = {name: {**state.optimizer[name], "exp_avg": state.optimizer[name]["exp_avg"] + 1}}
    weights = {("renamed" if n == name else n): t for n, t in state.weights.items()}
    other = replace(
        state,
        weights=weights,
        optimizer=moments,
        rng={"rank0/cpu": torch.ones(16, dtype=torch.uint8)},
        samples=64,
        epoch=3,
        options={"dtype": "keep"},
        history=[],
        model=state.model.model_copy(update={"resolution": 128}),
    )
    report = compare(state, other)
    assert {(t.part, t.name, str(t.kind)) for t in report.tensors} == {
        ("weights", name, "only in a"),
        ("weights", "renamed", "only in b"),
        ("optimizer", f"exp_avg/{name}", "values"),
        ("rng", "rank0/cpu", "values"),
    }
    assert {field.name.split(".")[0] for field in report.fields} == {
        "samples", "epoch", "options", "history", "model"
    }  # fmt: skip
    fresh = compare(state, replace(state, optimizer=None))
    assert [(f.name, f.a, f.b) for f in fresh.fields] == [("optimizer", "moments of 1 parameters", "fresh")]
    assert compare(state, state).same


def test_shapes_and_numbers_that_are_none(state: TrainState) -> None:
    name = "audio_encoder.conv_in.weight"
    nan = state.weights[name].clone()
    nan.view(-1)[0] = float("nan")
    with_nan = replace(state, weights={**state.weights, name: nan})
    assert compare(with_nan, with_nan).same
    (found,) = compare(state, with_nan).tensors
    assert (found.changed, found.max_abs) == (1, 0.0)
    (found,) = compare(state, replace(state, weights={**state.weights, name: torch.zeros(3)})).tensors
    assert found.kind is Difference.SHAPE and found.max_abs is None
    empty = replace(state, weights={"none": torch.zeros(0), "scalar": torch.tensor(1)})
    assert compare(empty, empty).same


def test_a_long_value_is_cut_for_a_person_alone(state: TrainState) -> None:
    short, long = (replace(state, progress={"scores": "A" * count}) for count in (9, 10_000))
    (found,) = compare(short, long).fields
    assert found.line() == f"progress.scores: {'A' * 9} | {'A' * 200}... (10000 characters)" and len(found.b) == 10_000


def test_a_difference_needs_two_readable_files(save: Save, weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        diff(save(weights), tmp_path / "none")


def test_leftovers_go_when_they_are_old_and_nobody_owns_them(tmp_path: Path, state: TrainState) -> None:
    mine, dead, foreign = (tmp_path / name for name in (partial_name("a"), partial_name("b"), ".partial-old-style"))
    dead = dead.with_name(dead.name.replace(f"-{mine.name.split('-')[2].split('@')[0]}@", "-999999999@"))
    for folder in (mine, dead, foreign):
        folder.mkdir()
    now = mine.stat().st_mtime
    assert remove_abandoned(tmp_path, now=now + 3000) == []
    assert sorted(remove_abandoned(tmp_path, now=now + 4000)) == sorted([dead, foreign])
    assert list(tmp_path.iterdir()) == [mine]  # its process, this one, lives
    with partial_directory(tmp_path / "deep" / "er", "x") as partial:
        assert partial.is_dir()
    assert not (tmp_path / "deep").exists()
    save_state(state, tmp_path / "deep" / "er")
    assert read_state(tmp_path / "deep" / "er").step == 12
