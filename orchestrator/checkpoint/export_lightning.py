"""A state as a full file of Lightning's: what `Trainer.fit(ckpt_path=...)` continues from.

Contract: the network is the attribute `model` of the LightningModule, whose only optimizer is AdamW over its parameters
in their order. A fresh optimizer is an optimizer without moments. The learning rate is LatentSync's: a state has none,
it is the run's configuration that has one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.optimizer import parameter_shapes
from orchestrator.checkpoint.state import TrainState

PREFIX = "model."
"""What stands before every name."""
_VERSION = "2.5.0"
"""Whose layout it is; newer versions of Lightning migrate it."""
_LR = 1e-5


def lightning_file(state: TrainState, weights: dict[str, Tensor]) -> dict[str, Any]:
    """What to give to `torch.save`.

    Args:
        state: all but the weights is taken from it.
        weights: by their plain names.
    """
    return {
        "epoch": state.epoch,
        "global_step": state.step,
        "pytorch-lightning_version": _VERSION,
        "state_dict": {PREFIX + name: tensor for name, tensor in weights.items()},
        "loops": {"fit_loop": _fit_loop(state.step, state.epoch)},
        "callbacks": {},
        "optimizer_states": [_adamw(state)],
        "lr_schedulers": [],
    }


def _adamw(state: TrainState) -> dict[str, Any]:
    """The state dict of `torch.optim.AdamW`, its parameters numbered as the network orders them."""
    names = list(parameter_shapes(state.model))
    template = torch.optim.AdamW([torch.nn.Parameter(torch.empty(0)) for _ in names], lr=_LR).state_dict()
    moments = state.optimizer or {}
    numbered = {i: dict(moments[name]) for i, name in enumerate(names) if name in moments}
    return {"state": numbered, "param_groups": template["param_groups"]}


def _fit_loop(step: int, epoch: int) -> dict[str, Any]:
    """Where Lightning really takes step and epoch from; loops that are left out start afresh."""
    counts = {"ready": step, "started": step, "completed": step}
    optimizer = {"step": {"total": counts, "current": counts}, "zero_grad": {"total": counts, "current": counts}}
    epochs = {"ready": epoch, "started": epoch, "processed": epoch, "completed": epoch}
    return {
        "epoch_progress": {"total": epochs, "current": epochs},
        "epoch_loop.automatic_optimization.optim_progress": {"optimizer": optimizer},
    }
