"""No file runs code: hostile files are refused without being followed, harmless objects load as inert stand-ins."""

from __future__ import annotations

import argparse
import datetime
import io
import os
import pickle
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from orchestrator.checkpoint import inspect, load_model, normalize
from orchestrator.checkpoint.formats.pickle_scan import foreign, named_globals
from orchestrator.checkpoint.formats.standins import ALLOWED, Inert, allowed_globals
from orchestrator.errors import RefusalReason

from .conftest import refusal

Save = Callable[..., Path]
Weights = dict[str, Tensor]


class Touch:
    """An object whose reading by `pickle` makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


class Evaluate:
    """The same by way of builtins."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize("hostile", [Touch, Evaluate])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_file_is_refused_and_not_run(
    tmp_path: Path, save: Save, weights: Weights, hostile: type, legacy: bool
) -> None:
    mark = tmp_path / "ran"
    path = save({"state_dict": weights, "x": hostile(mark)}, _use_new_zipfile_serialization=not legacy)
    for call in (lambda: inspect(path), lambda: normalize(path, tmp_path / "out"), lambda: load_model(path)):
        message = refusal(call, RefusalReason.UNSAFE)
        assert "system" in message or "eval" in message
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_pickles(tmp_path: Path, save: Save, protocol: int) -> None:
    mark = tmp_path / "ran"
    message = refusal(lambda: inspect(save(pickle.dumps([1, Touch(mark)], protocol))), RefusalReason.UNSAFE)
    assert "posix.system" in message or "nt.system" in message
    assert not mark.exists()
    refusal(lambda: inspect(save(pickle.dumps([1], protocol))), RefusalReason.UNSUPPORTED)


def test_a_hostile_file_wins_nothing_from_what_the_process_allowed(tmp_path: Path, save: Save) -> None:
    mark = tmp_path / "ran"
    with torch.serialization.safe_globals([eval]):
        refusal(lambda: inspect(save({"x": Evaluate(mark)})), RefusalReason.UNSAFE)
    assert not mark.exists()


def test_all_unsafe_names_are_told(save: Save) -> None:
    message = refusal(lambda: inspect(save({"a": torch.nn.Linear(2, 2), "b": io.BytesIO()})), RefusalReason.UNSAFE)
    assert "_io.BytesIO" in message


def test_a_whole_pickled_model_is_refused_with_advice(save: Save) -> None:
    message = refusal(lambda: inspect(save(torch.nn.Linear(2, 2))), RefusalReason.UNSAFE)
    assert "torch.nn.modules.linear.Linear" in message
    assert "model.state_dict()" in message


def test_harmless_objects_beside_the_weights(save: Save, weights: Weights) -> None:
    payload = {
        "state_dict": weights,
        "global_step": np.int64(12),
        "train_step_list": [np.int32(1), 2],
        "train_loss_list": [np.float64(0.75), np.float32(0.5)],
        "args": argparse.Namespace(lr=1e-4, out=Path("x"), at=datetime.datetime(2024, 1, 1)),
        "config": OmegaConf.create({"lr": 1e-4, "secret": "${oc.env:HOME}", "list": [1, {"a": 2}]}),
        "counts": defaultdict(list, {"a": [1]}),
        "mean": np.zeros(3),
    }
    report = inspect(save(payload))
    assert report.step == 12
    assert report.format == "latentsync.training"
    assert set(report.ignored) == {"args", "config", "counts", "mean"}
    assert {"argparse.Namespace", "omegaconf.dictconfig.DictConfig", "numpy.dtype"} <= set(report.allowed_classes)


def test_numpy_history_becomes_plain_numbers(save: Save, weights: Weights, tmp_path: Path) -> None:
    lists = {"train_step_list": [np.int32(1), 2], "train_loss_list": [np.float64(0.75), np.float32(0.5)]}
    result = normalize(save({"state_dict": weights, "global_step": 2, **lists}), tmp_path / "out")
    text = (result.path / "state.json").read_text()
    assert '"train/loss": 0.75' in text
    assert '"train/loss": 0.5' in text


def test_nothing_of_the_real_classes_is_made() -> None:
    assert all(standin.__module__ == "orchestrator.checkpoint.formats.standins" for standin in ALLOWED.values())
    before = torch.serialization.get_safe_globals()
    with allowed_globals():
        pass
    assert torch.serialization.get_safe_globals() == before
    assert Inert(1, 2).args == (1, 2)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_the_scan_sees_names_in_every_protocol(protocol: int) -> None:
    pickled = pickle.dumps({"a": [argparse.Namespace(x=1)], "b": os.system, "c": "a string", "d": os.system}, protocol)
    names = named_globals(io.BytesIO(pickled))
    assert "argparse.Namespace" in names
    assert foreign(names) and all("system" in name or "reconstructor" in name for name in foreign(names))
