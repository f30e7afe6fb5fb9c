"""Things beside the weights: configurations, numpy, lost classes, payloads; and whole pickled modules.

No class that such files name may be needed, imported or called.
"""

from __future__ import annotations

import argparse
import datetime
import io
import os
import sys
import types
import uuid
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from tests.zoo.case import MARK, Build, Good
from tests.zoo.files import bytes_file, torch_bytes
from tests.zoo.nets import net_of, stable_weights, take_steps


@dataclass
class Settings:
    """What a trainer may keep beside the weights."""

    lr: float
    out: Path


class Phase(Enum):
    """The same."""

    TRAIN = "train"


class Runs:
    """An object whose unpickling makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def beside(make: Callable[[Path], Any], **options: Any) -> Build:
    """A case's `build`: good weights, a step, and something else; it is given the file that a payload makes."""

    def build(folder: Path) -> Path:
        payload = {"state_dict": stable_weights(), "global_step": 6, "extra": make(folder / MARK)}
        with lost_modules():
            torch.save(payload, folder / "net.pt", **options)
        return folder / "net.pt"

    return build


# ---- classes that no longer exist


@cache
def _lost() -> types.ModuleType:
    """A module that exists only while files are made."""
    module = types.ModuleType("forgotten_trainer")
    code = "class Config:\n  pass\nclass Table(dict):\n  pass\nclass Row(list):\n  pass\ndef collate(x):\n  return x\n"
    exec(code, module.__dict__)
    return module


class lost_modules:  # reads as a verb where it is used
    """While this is open, classes of the lost module can be pickled."""

    def __enter__(self) -> types.ModuleType:
        sys.modules[_lost().__name__] = _lost()
        return _lost()

    def __exit__(self, *error: object) -> None:
        del sys.modules[_lost().__name__]


def lost_config() -> Any:
    """An object of a class that cannot be imported when it is read."""
    config = _lost().Config()
    config.lr, config.layers, config.window = 1e-4, [1, 2], torch.hann_window(8)
    return config


def _lost_containers() -> Any:
    table, row = _lost().Table(a=1), _lost().Row([1, 2])
    row.name = "row"
    return {"table": table, "row": row, "function": _lost().collate}


# ---- odd but harmless structures


def _holds_itself() -> Any:
    knot: dict[str, Any] = {"list": []}
    knot["list"].append(knot)
    return knot


def _deep(levels: int = 400) -> Any:
    value: Any = ()
    for _ in range(levels):
        value = [value]
    return value


_EXTRAS: dict[str, Callable[[Path], Any]] = {
    "OmegaConf": lambda mark: OmegaConf.create({"lr": 1e-4, "home": "${oc.env:HOME}", "list": [1, {"a": None}]}),
    "Namespace": lambda mark: argparse.Namespace(lr=1e-4, out=Path("runs"), seed=np.int64(3)),
    "numpy scalars": lambda mark: [np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a")],
    "numpy arrays": lambda mark: {"mean": np.zeros(3), "names": np.array(["a", "b"]), "objects": np.array([{}, None])},
    "numpy generator": lambda mark: np.random.default_rng(3).bit_generator.state,
    "numpy random state": lambda mark: np.random.RandomState(3).get_state(),
    "generator states": lambda mark: {"torch": torch.get_rng_state(), "cuda": [torch.get_rng_state()]},
    "dataclass": lambda mark: Settings(1e-4, Path("runs")),
    "enum": lambda mark: {Phase.TRAIN: 1},
    "schedule object": lambda mark: take_steps(torch.nn.Linear(2, 2))[1],
    "optimizer object": lambda mark: take_steps(torch.nn.Linear(2, 2))[0],
    "loss module": lambda mark: torch.nn.BCELoss(),
    "dates, paths, decimals": lambda mark: [
        datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC),
        datetime.timedelta(3),
        Path("a/b"),
        Decimal("0.1"),
        uuid.UUID(int=5),
    ],
    "containers": lambda mark: [
        defaultdict(list, a=[1]),
        OrderedDict(b=2),
        {1, 2},
        frozenset({3}),
        b"x",
        bytearray(b"y"),
    ],
    "numbers": lambda mark: [
        1 << 200,
        -(1 << 70),
        1.5j,
        True,
        None,
        slice(1, 2),
        range(3),
        torch.float16,
        torch.Size([2]),
    ],
    "partial": lambda mark: partial(print, "x"),
    "lost class": lambda mark: lost_config(),
    "lost containers and function": lambda mark: _lost_containers(),
    "a class itself": lambda mark: {"optimizer_class": torch.optim.AdamW, "net": torch.nn.Linear},
    "something that holds itself": lambda mark: _holds_itself(),
    "400 lists in each other": lambda mark: _deep(),
    "payload": Runs,
}


# ---- whole modules


def foreign_module(module: torch.nn.Module, wrap: Callable[[torch.nn.Module], Any] = lambda module: module) -> bytes:
    """A pickled module whose classes cannot be imported, as for anyone who has not its code."""
    return rename_classes(torch_bytes(wrap(module)))


def rename_classes(content: bytes) -> bytes:
    """Classes of this product become those of a package that is not there; protocol 2 writes names as plain lines."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            record = old.read(info)
            if info.filename.endswith("/data.pkl"):
                record = record.replace(b"corchestrator.", b"clipsync_upstream.")
            new.writestr(info.filename, record)
    return buffer.getvalue()


def _module(wrap: Callable[[torch.nn.Module], Any] = lambda module: module) -> Build:
    return bytes_file(lambda: foreign_module(net_of(stable_weights()), wrap))


def _legacy_module() -> bytes:
    options = {"_use_new_zipfile_serialization": False}
    content = torch_bytes(net_of(stable_weights()), **options)
    return content.replace(b"corchestrator.", b"clipsync_upstream.")


CASES: tuple[Good, ...] = (
    *(Good(f"beside: {name}", "objects beside the weights", beside(make), step=6) for name, make in _EXTRAS.items()),
    *(
        Good(
            f"beside, legacy: {name}",
            "objects beside the weights",
            beside(_EXTRAS[name], _use_new_zipfile_serialization=False),
            step=6,
        )
        for name in ("Namespace", "numpy arrays", "schedule object", "lost class", "payload")
    ),
    *(
        Good(
            f"beside, protocol 5: {name}",
            "objects beside the weights",
            beside(_EXTRAS[name], pickle_protocol=5),
            step=6,
        )
        for name in ("numpy arrays", "dataclass", "lost containers and function", "payload")
    ),
    Good("whole module", "pickled modules", _module()),
    Good("whole module, legacy", "pickled modules", bytes_file(_legacy_module)),
    Good("whole module in DataParallel", "pickled modules", _module(torch.nn.DataParallel)),
    Good("whole module in AveragedModel", "pickled modules", _module(torch.optim.swa_utils.AveragedModel)),
    Good("whole module as an entry", "pickled modules", _module(lambda m: {"model": m, "epoch": 3}), epoch=3),
    Good("whole module in half precision", "pickled modules", _module(lambda m: m.half()), expected=lambda: _halved()),
)


@cache
def _halved() -> dict[str, torch.Tensor]:
    return {name: tensor.half().float() for name, tensor in stable_weights().items()}
