"""LatentSync's files: `state_dict` alone (as released), or with the step and the loss lists of its trainer.

Neither holds an optimizer, a scaler, generators or a data position, so even the trainer's file resumes only in part.
"""

from __future__ import annotations

from orchestrator.checkpoint.formats.base import Contents, Extracted, Layout
from orchestrator.checkpoint.formats.layouts.values import count, count_decision, is_tensor_dict, others, table
from orchestrator.checkpoint.state import Decision, DecisionSource

_LISTS = ("train_step_list", "train_loss_list", "val_step_list", "val_loss_list")


def detect(contents: Contents) -> bool:
    """Whether there is a `state_dict` of tensors."""
    return isinstance(contents.data, dict) and is_tensor_dict(contents.data.get("state_dict"))


def extract(contents: Contents) -> Extracted:
    """Weights, step and loss history."""
    data = contents.data
    raw_step = data.get("global_step")
    step = count(raw_step)
    history = table(
        [
            ("train/loss", data.get("train_step_list"), data.get("train_loss_list")),
            ("val/loss", data.get("val_step_list"), data.get("val_loss_list")),
        ]
    )
    decisions = [count_decision("step", "global_step", raw_step, step)]
    if history:
        why = "the step and loss lists of the file, one row per step"
        decisions.append(Decision("history", DecisionSource.FILE, f"{len(history)} rows", why))
    return Extracted(
        format="latentsync.weights_only" if raw_step is None else "latentsync.training",
        weights=data["state_dict"],
        step=step,
        history=history,
        decisions=tuple(decisions),
        ignored=others(data, ("state_dict", "global_step", *_LISTS)),
    )


LATENTSYNC = Layout("latentsync", detect, extract)
