"""Adam moments from a file that numbers parameters to a state that names them, and back.

Why names: a number means nothing once the model code changes. The number is the position among the model's parameters,
which is only believed when every shape agrees. Contract: all moments are carried over, or none (a fresh optimizer);
half an optimizer would be worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.formats.layouts.values import count
from orchestrator.checkpoint.state import AnyModelConfig, Decision, DecisionSource, OptimizerState
from orchestrator.models import build_meta

MOMENTS = ("exp_avg", "exp_avg_sq")
"""The two slots of Adam that have the shape of their parameter."""


def carry_over(raw: Mapping[str, Any] | None, model: AnyModelConfig) -> tuple[OptimizerState | None, list[Decision]]:
    """Moments by parameter name in float32, or none and the reason why the optimizer starts fresh."""
    if raw is None:
        return None, [fresh("the file holds none")]
    parameters = parameter_shapes(model)
    numbers, settings = _groups(raw)
    states = raw.get("state")
    if not isinstance(states, Mapping) or len(numbers) != len(parameters):
        return None, [fresh(f"the file's has {len(numbers)} parameters, but the model {len(parameters)}")]
    optimizer: OptimizerState = {}
    for number, (name, shape) in zip(numbers, parameters.items(), strict=True):
        slots = _slots(states.get(number), shape)
        if slots is None:
            return None, [fresh(f"the file's has no Adam moments of shape {list(shape)} for `{name}`")]
        optimizer[name] = slots
    why = "Adam moments of the file, by the order of the model's parameters; every shape agrees"
    return optimizer, [Decision("optimizer", DecisionSource.FILE, f"{len(optimizer)} parameters", why), *settings]


def parameter_shapes(model: AnyModelConfig) -> dict[str, tuple[int, ...]]:
    """Trainable parameters in the order in which torch numbers them."""
    return {name: tuple(parameter.shape) for name, parameter in build_meta(model).named_parameters()}


def number_parameters(optimizer: OptimizerState, model: AnyModelConfig, lr: float) -> dict[str, Any]:
    """The state dict of `torch.optim.Adam` over the model's parameters, with these moments."""
    names = list(parameter_shapes(model))
    template = torch.optim.Adam([torch.nn.Parameter(torch.empty(0)) for _ in names], lr=lr).state_dict()
    state = {i: dict(optimizer[name]) for i, name in enumerate(names) if name in optimizer}
    return {"state": state, "param_groups": template["param_groups"]}


def fresh(why: str) -> Decision:
    """That the optimizer starts fresh, and why."""
    return Decision("optimizer", DecisionSource.DEFAULT, "fresh", f"the optimizer starts fresh: {why}")


def _groups(raw: Mapping[str, Any]) -> tuple[list[Any], list[Decision]]:
    """Parameter numbers in order, and what the file says of its settings (which are not carried over)."""
    groups = raw.get("param_groups")
    groups = [group for group in groups if isinstance(group, Mapping)] if isinstance(groups, list) else []
    numbers = [number for group in groups if isinstance(group.get("params"), list) for number in group["params"]]
    rates = [group["lr"] for group in groups if isinstance(group.get("lr"), float)]
    why = "the file's learning rate, for information; settings come from the run's configuration"
    return numbers, [Decision("optimizer.lr", DecisionSource.FILE, rate, why) for rate in rates[:1]]


def _slots(raw: object, shape: tuple[int, ...]) -> dict[str, Tensor] | None:
    """One parameter's moments and step, or none when they are not there or of another shape."""
    if not isinstance(raw, Mapping):
        return None
    step = count(raw.get("step"))
    moments = {slot: raw.get(slot) for slot in MOMENTS}
    if step is None:
        return None
    slots: dict[str, Tensor] = {}
    for slot, tensor in moments.items():
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape or not tensor.is_floating_point():
            return None
        slots[slot] = tensor.detach().to(torch.float32)
    return {**slots, "step": torch.tensor(float(step))}
