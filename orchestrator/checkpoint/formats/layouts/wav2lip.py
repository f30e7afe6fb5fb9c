"""Files of Wav2Lip and its forks: `state_dict`, `optimizer` (of Adam, or None), `global_step`, `global_epoch`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, Extracted, Layout
from orchestrator.checkpoint.formats.layouts.gather import training_state
from orchestrator.checkpoint.formats.layouts.values import is_tensor_dict


def detect(contents: Contents) -> bool:
    """Whether there is a `state_dict` of tensors, and Wav2Lip's optimizer and counters beside it."""
    data = contents.data
    return (
        isinstance(data, dict)
        and is_tensor_dict(data.get("state_dict"))
        and ("global_epoch" in data or {"optimizer", "global_step"} <= data.keys())
    )


def extract(contents: Contents, weights: str, path: Path) -> Extracted:
    """Weights, step, epoch and the optimizer as torch numbers it; the forks' best loss."""
    return training_state(contents, weights, path, lambda found: "wav2lip.training")


WAV2LIP = Layout("wav2lip", detect, extract)
