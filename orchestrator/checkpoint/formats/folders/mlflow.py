"""MLflow's model folders: `MLmodel` (YAML) says which library wrote the model and where it lies.

Read is what the `pytorch` flavor names: `data/model.pth`, a pickled module or state dict, or `data/model.pt2`, an
exported program; each by the reader of its own container, never by MLflow. A folder of another flavor is refused with
that flavor's name. `mlflow.pytorch.save_state_dict` writes no `MLmodel`; its `state_dict.pth` needs nothing special.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.checkpoint.formats.base import Contents, FolderFormat, refuse
from orchestrator.checkpoint.formats.folders.files import FolderReader, files_in
from orchestrator.checkpoint.formats.paths import require_inside
from orchestrator.errors import RefusalReason

_MLMODEL = "MLmodel"
_FLAVOR = "pytorch"
_FILES = ("model.pth", "model.pt2", "state_dict.pth")
_MOST_YAML = 1 << 18
_TextLoader = yaml.BaseLoader
"""Knows text, lists and dicts only: no tags, and neither merges nor numbers, which can be made to take hours."""


def detect(folder: Path) -> bool:
    """Whether there is a description of a model."""
    return _MLMODEL in files_in(folder)


def read(folder: Path) -> Contents:
    """Read the model that the description names."""
    reader = FolderReader(folder)
    flavors = _flavors(reader)
    if _FLAVOR not in flavors:
        others = [f"`{ascii(name)[1:-1][:60]}`" for name in flavors if name != "python_function"]
        found = ", ".join(others[:6]) or "none"
        what = f"is an MLflow model of another kind: its flavors are {found}, but `pytorch` was expected"
        raise refuse(folder, RefusalReason.UNSUPPORTED, what, "log the network with mlflow.pytorch.log_model")
    data = reader.object(_model_file(reader, flavors[_FLAVOR]))
    return reader.contents(MLFLOW.name, data)


MLFLOW = FolderFormat("mlflow", detect, read)


def _flavors(reader: FolderReader) -> dict[str, Any]:
    size = reader.blob(_MLMODEL).size
    if size > _MOST_YAML:
        raise reader.damaged(_MLMODEL, f"it has {size:,} bytes, but should be a short description")
    try:
        described = yaml.load(reader.text(_MLMODEL), _TextLoader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError) as error:
        raise reader.damaged(_MLMODEL, f"it is no whole YAML file ({str(error)[:80]})") from error
    flavors = described.get("flavors") if isinstance(described, dict) else None
    if not isinstance(flavors, dict) or not all(isinstance(name, str) for name in flavors):
        raise reader.damaged(_MLMODEL, "it lists no flavors")
    return flavors


def _model_file(reader: FolderReader, flavor: Any) -> str:
    """The file below the folder that the flavor names, which may also be a file."""
    place = flavor.get("model_data", "data") if isinstance(flavor, Mapping) else None
    if not isinstance(place, str):
        raise reader.damaged(_MLMODEL, "its pytorch flavor does not say where the model is")
    place = place.rstrip("/")
    require_inside(reader.folder, place)
    names = [f"{place}/{name}" for name in _FILES]
    there = [name for name in (place, *names) if (reader.folder / name).is_file()]
    return there[0] if there else names[0]
