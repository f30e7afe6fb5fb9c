"""A folder with one file of weights in it, as hubs and trainers make them.

The best-known names come first; otherwise there must be exactly one file that could hold weights.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, FolderFormat
from orchestrator.checkpoint.formats.folders.files import FolderReader

_NAMES = ("model.safetensors", "pytorch_model.bin", "model.pt", "model.pth", "checkpoint.pt", "state_dict.pth")
_ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz", ".pkl")


def detect(folder: Path) -> bool:
    """Whether it is clear which file holds the weights."""
    return _the_file(folder) is not None


def read(folder: Path) -> Contents:
    """Read that file."""
    name = _the_file(folder) or _NAMES[0]
    reader = FolderReader(folder)
    data = reader.object(name)
    return reader.contents(SINGLE.name, data)


SINGLE = FolderFormat("folder", detect, read)


def _the_file(folder: Path) -> str | None:
    for name in _NAMES:
        if (folder / name).is_file():
            return name
    found = [item.name for item in folder.iterdir() if item.suffix in _ENDINGS and item.is_file()]
    return found[0] if len(found) == 1 else None
