"""LatentSync's files: `state_dict` alone (as released), or with the step and the loss lists of its trainer.

Neither holds an optimizer, a scaler, generators or a data position, so even the trainer's file resumes only in part.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, Extracted, Layout
from orchestrator.checkpoint.formats.layouts.gather import training_state
from orchestrator.checkpoint.formats.layouts.values import is_tensor_dict


def detect(contents: Contents) -> bool:
    """Whether there is a `state_dict` of tensors."""
    return isinstance(contents.data, dict) and is_tensor_dict(contents.data.get("state_dict"))


def extract(contents: Contents, weights: str, path: Path) -> Extracted:
    """Weights, step and loss history."""
    return training_state(contents, weights, path, _name)


LATENTSYNC = Layout("latentsync", detect, extract)


def _name(found: Extracted) -> str:
    return "latentsync.weights_only" if found.step is None and not found.history else "latentsync.training"
