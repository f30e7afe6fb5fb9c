"""A bare dict of tensors: `torch.save(model.state_dict(), file)`, and every safetensors file.

safetensors may carry strings beside the tensors: a step (`global_step` or `step`), and in files exported here the
description of the network (`model_config`).
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, Extracted, Layout
from orchestrator.checkpoint.formats.layouts.gather import training_state
from orchestrator.checkpoint.formats.layouts.values import is_tensor_dict


def detect(contents: Contents) -> bool:
    """Whether the object is tensors by name and nothing else."""
    return is_tensor_dict(contents.data)


def extract(contents: Contents, weights: str, path: Path) -> Extracted:
    """Weights, and step and network from the metadata."""
    return training_state(contents, weights, path, lambda found: "raw_state_dict")


BARE = Layout("bare", detect, extract)
