"""Weights and what trainers write beside them: optimizer, schedule, scaler, each in a file of its own.

`assemble` makes one dict of it, such as a trainer that writes a single file would have saved. A model file that holds
more than weights is such a dict already and stays as it is.
"""

from __future__ import annotations

from typing import Any

from orchestrator.checkpoint.formats.folders.files import FolderReader, step_decision, steps_of
from orchestrator.checkpoint.formats.folders.sharded import ENDINGS, read_index
from orchestrator.checkpoint.state import Decision

_WEIGHTS = (
    ("model", ".safetensors"),
    ("diffusion_pytorch_model", ".safetensors"),
    ("pytorch_model", ".bin"),
    ("diffusion_pytorch_model", ".bin"),
    ("pytorch_model_fsdp", ".bin"),
)


def weight_file(files: list[str], number: str = "") -> str | None:
    """The file or index with a model's weights, as transformers, diffusers and Accelerate name it.

    Args:
        files: names of the files in the folder.
        number: what stands behind the name of a further model, e.g. `_1`.
    """
    names = [f"{stem}{number}{ending}{index}" for stem, ending in _WEIGHTS for index in ("", ".index.json")]
    return next((name for name in names if name in files), None)


def read_weights(reader: FolderReader, name: str) -> Any:
    """What a weight file, or the files of an index, hold."""
    return read_index(reader, name) if name.endswith(ENDINGS) else reader.object(name)


def assemble(
    reader: FolderReader, weights: Any, beside: dict[str, str | None], more: dict[str, Any]
) -> tuple[dict[str, Any], tuple[Decision, ...]]:
    """One dict of everything, and what was settled.

    Args:
        reader: reads the files.
        weights: tensors by name, or whatever the weight file held.
        beside: key in the dict -> file, for those that are there.
        more: further entries; those without a value are left out.
    """
    data: dict[str, Any] = {"model": weights}
    data |= {key: reader.object(file) for key, file in beside.items() if file is not None}
    data |= {key: value for key, value in more.items() if value is not None}
    step = steps_of(data.get("optimizer"))
    if step is None or "step" in data or "global_step" in data:
        return data, ()
    return {**data, "step": step}, (step_decision(step),)
