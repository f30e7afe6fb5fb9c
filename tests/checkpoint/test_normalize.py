"""Normalizing is an artifact: one directory per content, written once, verified ever after."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator.checkpoint import (
    inspect,
    is_complete,
    list_states,
    load_model,
    normalize,
    read_manifest,
    read_state,
    weights_hash,
)
from orchestrator.checkpoint.normalize import NormalizedCheckpoint
from orchestrator.config.model import StableSyncNetConfig, Wav2LipSyncNetConfig
from orchestrator.errors import ConfigError, RefusalReason
from orchestrator.models import build_meta

from .conftest import refusal

Save = Callable[..., Path]
Weights = dict[str, Tensor]


def together(gate: Any, path: Path, out: Path) -> NormalizedCheckpoint:
    """Normalize when all are ready."""
    gate.wait(60)
    return normalize(path, out)


def stamps(folder: Path) -> dict[str, int]:
    """Every path below a folder and when it was last written."""
    return {str(path): path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_the_directory_is_named_by_its_content(save: Save, weights: Weights, tmp_path: Path) -> None:
    result = normalize(save({"state_dict": weights}), tmp_path / "out")
    assert result.path == tmp_path / "out" / result.state_hash
    assert read_manifest(result.path).content_hash == result.state_hash
    assert weights_hash(read_state(result.path).weights) == weights_hash(weights)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [result.state_hash]


def test_again_is_the_same_and_writes_nothing(save: Save, weights: Weights, tmp_path: Path) -> None:
    path = save({"state_dict": weights})
    first = normalize(path, tmp_path / "out")
    before = stamps(tmp_path)
    again = normalize(path, tmp_path / "out")
    assert (again.path, again.state_hash, first.written, again.written) == (first.path, first.state_hash, True, False)
    assert stamps(tmp_path) == before
    renamed = path.rename(tmp_path / "other name.bin")
    assert normalize(renamed, tmp_path / "elsewhere").state_hash == first.state_hash


def test_a_normalized_directory_is_returned_as_it_is(save: Save, weights: Weights, tmp_path: Path) -> None:
    first = normalize(save({"state_dict": weights, "global_step": 4}), tmp_path / "out")
    again = normalize(first.path, tmp_path / "out2")
    assert (again.path, again.state_hash, again.written) == (first.path, first.state_hash, False)
    assert not (tmp_path / "out2").exists()
    assert inspect(first.path).format == "canonical"
    assert inspect(first.path).decisions == first.report.decisions


def test_options_are_part_of_the_hash(save: Save, weights: Weights, tmp_path: Path) -> None:
    path = save({"state_dict": {name: tensor.half() for name, tensor in weights.items()}})
    cast, kept = normalize(path, tmp_path), normalize(path, tmp_path, dtype="keep")
    assert cast.state_hash != kept.state_hash
    assert inspect(cast.path).dtypes == {"F32": len(weights)}
    assert inspect(kept.path).dtypes == {"F16": len(weights)}
    assert cast.report.dtypes == {"F16": len(weights)}
    assert next(load_model(kept.path).parameters()).dtype is torch.float32
    with pytest.raises(ConfigError, match="dtype"):
        normalize(path, tmp_path, dtype="float8")


def test_non_finite_weights_need_permission(save: Save, weights: Weights, tmp_path: Path) -> None:
    name = list(weights)[5]
    weights[name] = torch.full_like(weights[name], float("nan"))
    path = save(weights)
    assert name in refusal(lambda: normalize(path, tmp_path / "out"), RefusalReason.CORRUPT)
    assert not (tmp_path / "out").exists()
    result = normalize(path, tmp_path / "out", allow_non_finite=True)
    assert any(decision.field == "weights.finite" for decision in result.report.decisions)


def test_three_processes_at_once(save: Save, weights: Weights, tmp_path: Path) -> None:
    path, out = save({"state_dict": weights}), tmp_path / "out"
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(3, mp_context=context) as pool:
        gate = manager.Barrier(3)
        results = [future.result() for future in [pool.submit(together, gate, path, out) for _ in range(3)]]
    assert all(isinstance(result, NormalizedCheckpoint) for result in results)
    assert {result.path for result in results} == {out / results[0].state_hash}
    assert sum(result.written for result in results) == 1
    assert [item.name for item in out.iterdir()] == [results[0].state_hash]
    assert is_complete(results[0].path)


def test_a_killed_process_leaves_no_checkpoint_and_what_it_left_goes(
    save: Save, weights: Weights, tmp_path: Path
) -> None:
    path, out = save({"state_dict": weights}), tmp_path / "out"
    code = f"""
import time
import importlib
room = importlib.import_module("orchestrator.checkpoint.normalize")
room.write_documents = lambda *_: (print("written", flush=True), time.sleep(100))
room.normalize({str(path)!r}, {str(out)!r})
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"written\n"
        process.kill()
    (left,) = out.iterdir()
    assert left.name.startswith(f".partial-normalize-{process.pid}@") and not is_complete(left)
    result = normalize(path, out)
    assert result.written and sorted(out.iterdir()) == [left, result.path]  # young: it might be another machine's clock
    assert [record.complete for record in list_states(out)] == [True, False]
    for item in (left, *left.iterdir()):
        os.utime(item, (1e9, 1e9))
    other = save({"state_dict": weights, "global_step": 7}, "other.pt")
    again = normalize(other, out)
    assert sorted(out.iterdir()) == sorted([result.path, again.path])


def test_zero_moments_beside_a_step_are_never_made(wav2lip_weights: Weights, save: Save, tmp_path: Path) -> None:
    names = [name for name, _ in build_meta(Wav2LipSyncNetConfig()).named_parameters()]
    zeros = {i: torch.zeros_like(wav2lip_weights[name]) for i, name in enumerate(names)}
    state = {i: {"step": 900, "exp_avg": zero, "exp_avg_sq": zero} for i, zero in zeros.items()}
    optimizer = {"state": state, "param_groups": [{"lr": 1e-4, "params": list(zeros)}]}
    for moments in (None, {"state": {}, "param_groups": optimizer["param_groups"]}):
        payload = {"state_dict": wav2lip_weights, "optimizer": moments, "global_step": 900, "global_epoch": 1}
        made = read_state(normalize(save(payload, "fresh.pth"), tmp_path / "out").path)
        assert made.step == 900 and made.optimizer is None
    payload = {"state_dict": wav2lip_weights, "optimizer": optimizer, "global_step": 900, "global_epoch": 1}
    assert read_state(normalize(save(payload, "zeros.pth"), tmp_path / "out").path).optimizer is None


def test_damage_in_the_store_is_told_and_not_covered_up(save: Save, weights: Weights, tmp_path: Path) -> None:
    path = save(weights)
    stored = normalize(path, tmp_path / "out").path / "model.safetensors"
    damaged = bytearray(stored.read_bytes())
    damaged[-1] ^= 1
    stored.write_bytes(damaged)
    assert "model.safetensors" in refusal(lambda: normalize(path, tmp_path / "out"), RefusalReason.CORRUPT)
    stored.unlink()
    assert "normalize again" in refusal(lambda: normalize(path, tmp_path / "out"), RefusalReason.CORRUPT)


def test_a_crash_while_writing_leaves_no_checkpoint(
    save: Save, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("orchestrator.checkpoint.directory._write_json", fail)
    assert "disk full" in refusal(lambda: normalize(save(weights), tmp_path / "out"), RefusalReason.STORAGE)
    assert not (tmp_path / "out").exists()


def test_out_must_be_a_folder(save: Save, weights: Weights) -> None:
    path = save(weights)
    refusal(lambda: normalize(path, path), RefusalReason.EXISTS)


def test_the_model_gives_the_embeddings_of_its_weights(
    save: Save, weights: Weights, config: StableSyncNetConfig, tmp_path: Path
) -> None:
    expected = build_meta(config)
    expected.load_state_dict(weights, assign=True)
    expected.eval()
    shape = expected.input_shape
    frames, audio = torch.rand(2, *shape.frames), torch.rand(2, *shape.audio)
    path = save({"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}})
    for source in (path, normalize(path, tmp_path / "out").path):
        model = load_model(source)
        assert not model.training
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(model(frames, audio), expected(frames, audio), strict=True))
