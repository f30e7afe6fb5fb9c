"""A folder with one file of weights in it, as hubs, Ray's `TorchCheckpoint` and one's own trainers make them.

A file under a well-known name is taken, and the others are reported; without one there must be exactly one file that
could hold weights. An optimizer, schedule and scaler in files of their own come along.
"""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, FolderFormat
from orchestrator.checkpoint.formats.folders.beside import assemble
from orchestrator.checkpoint.formats.folders.files import FolderReader, files_in
from orchestrator.checkpoint.formats.layouts.values import is_tensor_dict
from orchestrator.checkpoint.state import Decision

_NAMES = (
    "model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
    "model.pt", "model.pth", "checkpoint.pt", "checkpoint.pth", "checkpoint.ckpt", "state_dict.pth", "state_dict.pt",
)  # fmt: skip
# the same weights twice: the first goes before the second
_TWINS = (
    ("model.safetensors", "pytorch_model.bin"),
    ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
)
_ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz", ".pkl", ".tar", ".pt2", ".ts")
_BESIDE = {
    "optimizer": re.compile(r"(?:optimizer|optim)\.(?:pt|pth|bin|ckpt)"),
    "scheduler": re.compile(r"(?:lr_)?scheduler\.(?:pt|pth|bin|ckpt)"),
    "scaler": re.compile(r"(?:grad_)?scaler\.(?:pt|pth|bin|ckpt)"),
}
_NO_WEIGHTS = re.compile(r"(?:rng|random|generator|sampler|training_args|preprocessor|dl_state)[\w-]*\.\w+")


def detect(folder: Path) -> bool:
    """Whether it is clear which file holds the weights."""
    return _the_file(files_in(folder)) is not None


def read(folder: Path) -> Contents:
    """Read that file, and what a trainer wrote beside it."""
    reader, files = FolderReader(folder), files_in(folder)
    data = reader.object(_the_file(files) or _NAMES[0])
    settled: tuple[Decision, ...] = ()
    beside = {key: next((name for name in files if pattern.fullmatch(name)), None) for key, pattern in _BESIDE.items()}
    if any(beside.values()) and is_tensor_dict(data):  # otherwise it is a trainer's own dict of everything
        data, settled = assemble(reader, data, beside, {})
    return reader.contents(SINGLE.name, data, notes=(*settled, *reader.left_out(weight_files(files))))


SINGLE = FolderFormat("folder", detect, read)


def weight_files(files: list[str]) -> list[str]:
    """Those that could hold weights, by their names."""
    beside = (*_BESIDE.values(), _NO_WEIGHTS)
    visible = [name for name in files if not name.startswith(".")]  # Ray's own notes are pickles, too
    return [name for name in visible if name.endswith(_ENDINGS) and not any(p.fullmatch(name) for p in beside)]


def _the_file(files: list[str]) -> str | None:
    known = [name for name in _NAMES if name in files]
    for first, second in _TWINS:
        if first in known and second in known:
            known.remove(second)
    candidates = known or weight_files(files)
    return candidates[0] if len(candidates) == 1 else None
