"""DINet's files: the tensors are in `state_dict`, in it under `net`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, Extracted, Layout
from orchestrator.checkpoint.formats.layouts.gather import training_state
from orchestrator.checkpoint.formats.layouts.values import is_tensor_dict


def detect(contents: Contents) -> bool:
    """Whether there is a `state_dict` with a `net` of tensors."""
    inner = contents.data.get("state_dict") if isinstance(contents.data, dict) else None
    return isinstance(inner, dict) and is_tensor_dict(inner.get("net"))


def extract(contents: Contents, weights: str, path: Path) -> Extracted:
    """Weights, and whatever lies beside them."""
    return training_state(contents, weights, path, lambda found: "dinet")


DINET = Layout("dinet", detect, extract)
