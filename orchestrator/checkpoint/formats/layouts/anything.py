"""Any other object with tensors in it: full dicts of careful trainers, weights under another name, parts of folders."""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, Extracted, Layout
from orchestrator.checkpoint.formats.layouts.gather import training_state
from orchestrator.checkpoint.formats.layouts.search import tensor_sets


def detect(contents: Contents) -> bool:
    """Whether tensors of a model are anywhere near the top; what has none is of no layout at all."""
    return any(item.is_model for item in tensor_sets(contents))


def extract(contents: Contents, weights: str, path: Path) -> Extracted:
    """Everything that is known by name."""
    return training_state(contents, weights, path, _name)


ANYTHING = Layout("dict", detect, extract)


def _name(found: Extracted) -> str:
    return "weights_only" if found.step is None and found.optimizer is None else "training_state"
