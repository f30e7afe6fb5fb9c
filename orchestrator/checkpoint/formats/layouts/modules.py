"""Whole models: a pickled `nn.Module`, or a TorchScript program. Their classes and code are never looked at."""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, Extracted, Layout
from orchestrator.checkpoint.formats.layouts.gather import training_state
from orchestrator.checkpoint.formats.layouts.trees import is_module, module_tensors, script_tensors
from orchestrator.checkpoint.formats.pickles import Inert

_SCRIPT = "torchscript"


def detect(contents: Contents) -> bool:
    """Whether the object is a module with tensors."""
    if not isinstance(contents.data, Inert):
        return False
    if contents.container.startswith(_SCRIPT):
        return bool(script_tensors(contents.data))
    return is_module(contents.data) and bool(module_tensors(contents.data))


def extract(contents: Contents, weights: str, path: Path) -> Extracted:
    """Its parameters and buffers."""
    name = _SCRIPT if contents.container.startswith(_SCRIPT) else "pickled_module"
    return training_state(contents, weights, path, lambda found: name)


MODULES = Layout("module", detect, extract)
