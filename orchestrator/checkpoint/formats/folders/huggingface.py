"""Folders of transformers and diffusers: weights under the hub's names, and what `Trainer` writes beside them.

`Trainer` adds `optimizer.pt`, `scheduler.pt`, `scaler.pt` and `trainer_state.json` with the step and the epoch; a hub's
folder has only `config.json`, which describes a network of those libraries and is not used.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from orchestrator.checkpoint.formats.base import Contents, FolderFormat
from orchestrator.checkpoint.formats.folders.beside import assemble, read_weights, weight_file
from orchestrator.checkpoint.formats.folders.files import FolderReader, files_in, is_count

_TRAINER = "trainer_state.json"
_CONFIG = "config.json"
_BESIDE = {"optimizer": "optimizer.pt", "scheduler": "scheduler.pt", "scaler": "scaler.pt"}


def detect(folder: Path) -> bool:
    """Whether there are weights under a hub's name beside the files of these libraries."""
    files = files_in(folder)
    return weight_file(files) is not None and (_TRAINER in files or _CONFIG in files)


def read(folder: Path) -> Contents:
    """Read the weights, and a trainer's state where there is one."""
    reader, files = FolderReader(folder), files_in(folder)
    name = weight_file(files) or ""
    weights = read_weights(reader, name)
    beside = {key: file for key, file in _BESIDE.items() if file in files}
    progress = _progress(reader) if _TRAINER in files else {}
    if not beside and not progress:
        return reader.contents(HUGGINGFACE.name, weights, notes=reader.left_out(files))
    data, settled = assemble(reader, weights, dict(beside), progress)
    return reader.contents(HUGGINGFACE.name, data, notes=(*settled, *reader.left_out(files)))


HUGGINGFACE = FolderFormat("huggingface", detect, read)


def _progress(reader: FolderReader) -> dict[str, Any]:
    """Step and whole epochs done."""
    state = reader.json(_TRAINER)
    found = {"global_step": state["global_step"]} if is_count(state.get("global_step")) else {}
    epoch = state.get("epoch")
    if isinstance(epoch, (int, float)) and math.isfinite(epoch) and is_count(math.floor(epoch)):
        found["epoch"] = math.floor(epoch)
    return found
