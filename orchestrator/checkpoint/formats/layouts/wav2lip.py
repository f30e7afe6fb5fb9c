"""Files of Wav2Lip and its forks: `state_dict`, `optimizer` (of Adam, or None), `global_step`, `global_epoch`."""

from __future__ import annotations

from orchestrator.checkpoint.formats.base import Contents, Extracted, Layout
from orchestrator.checkpoint.formats.layouts.values import count, count_decision, is_tensor_dict, others

_KNOWN = ("state_dict", "optimizer", "global_step", "global_epoch")


def detect(contents: Contents) -> bool:
    """Whether there is a `state_dict` of tensors, and an optimizer or an epoch beside it."""
    data = contents.data
    return (
        isinstance(data, dict)
        and is_tensor_dict(data.get("state_dict"))
        and ("optimizer" in data or "global_epoch" in data)
    )


def extract(contents: Contents) -> Extracted:
    """Weights, step, epoch and the optimizer as torch numbers it."""
    data = contents.data
    step, epoch = count(data.get("global_step")), count(data.get("global_epoch"))
    optimizer = data.get("optimizer")
    return Extracted(
        format="wav2lip.training",
        weights=data["state_dict"],
        step=step,
        epoch=epoch,
        optimizer=optimizer if isinstance(optimizer, dict) else None,
        decisions=(
            count_decision("step", "global_step", data.get("global_step"), step),
            count_decision("epoch", "global_epoch", data.get("global_epoch"), epoch),
        ),
        ignored=others(data, _KNOWN),
    )


WAV2LIP = Layout("wav2lip", detect, extract)
