"""Adam moments from a file that numbers parameters to a state that names them, and back.

Why names: a number means nothing once the model code changes. A number is believed when the file names it, or when it
is the position among all of the model's parameters and every shape agrees; for two groups also when the first has the
matrices and the other the vectors (or the other way round), each in the model's order. Contract: all moments are
carried over, or none (a fresh optimizer); half an optimizer would be worse than none, and so would moments of zero
beside a step. Only steps are read here, and of the moments as much as shows that they are not all zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.formats.layouts.values import as_tensor, count, number
from orchestrator.checkpoint.names import clean_names
from orchestrator.checkpoint.state import AnyModelConfig, Decision, DecisionSource, OptimizerState
from orchestrator.errors import CheckpointError
from orchestrator.models import skeleton

MOMENTS = ("exp_avg", "exp_avg_sq")
"""The two slots of Adam that have the shape of their parameter."""

Shapes = dict[str, tuple[int, ...]]
_PIECE = 1 << 20
_SETTINGS = ("lr", "betas", "eps", "weight_decay")
_OTHER_SLOTS = {
    "momentum_buffer": "SGD",
    "square_avg": "RMSprop or Adadelta",
    "sum": "Adagrad",
    "exp_avg_sq_row": "Adafactor",
    "exp_inf": "Adamax",
    "state1": "an 8-bit optimizer",
    "mu_product": "NAdam",
}
_NO_OPTIMIZER = "the file holds none"


class _Misfit(Exception):
    """Why an optimizer is not carried over."""


def carry_over(
    raw: Mapping[str, Any] | Sequence[Any] | None, model: AnyModelConfig, without: str = _NO_OPTIMIZER
) -> tuple[OptimizerState | None, list[Decision]]:
    """Moments by parameter name, of the file's types, or none and the reason why the optimizer starts fresh.

    Args:
        raw: the state dict of an optimizer, several of them, or none.
        model: the network.
        without: why there is none.
    """
    if raw is None:
        return None, [fresh(without)]
    candidates = [raw] if isinstance(raw, Mapping) else [item for item in raw if isinstance(item, Mapping)]
    shapes = parameter_shapes(model)
    fitting, reasons = [], []
    for candidate in candidates:
        try:
            fitting.append((candidate, *_moments(candidate, shapes)))
        except _Misfit as misfit:
            reasons.append(str(misfit))
    if len(fitting) != 1:
        why = f"{len(fitting)} of its optimizers fit" if fitting else "; ".join(reasons) or without
        return None, [fresh(why), *(_settings(candidates[0]) if len(candidates) == 1 else ())]
    candidate, optimizer, how = fitting[0]
    why = f"Adam moments of the file, by {how}; every shape agrees"
    if len(candidates) > 1:
        why += f"; of its {len(candidates)} optimizers only this one fits"
    told = Decision("optimizer", DecisionSource.FILE, f"{len(optimizer)} parameters", why)
    return optimizer, [told, *_settings(candidate), *_left(candidate)]


def parameter_shapes(model: AnyModelConfig) -> Shapes:
    """Trainable parameters in the order in which torch numbers them."""
    return {name: tuple(parameter.shape) for name, parameter in skeleton(model).named_parameters()}


def number_parameters(optimizer: OptimizerState, model: AnyModelConfig, lr: float) -> dict[str, Any]:
    """The state dict of `torch.optim.Adam` over the model's parameters, with these moments."""
    names = list(parameter_shapes(model))
    template = torch.optim.Adam([torch.nn.Parameter(torch.empty(0)) for _ in names], lr=lr).state_dict()
    state = {i: dict(optimizer[name]) for i, name in enumerate(names) if name in optimizer}
    return {"state": state, "param_groups": template["param_groups"]}


def fresh(why: str) -> Decision:
    """That the optimizer starts fresh, and why."""
    return Decision("optimizer", DecisionSource.DEFAULT, "fresh", f"the optimizer starts fresh: {why}")


def steps_done(optimizer: OptimizerState) -> int:
    """The most steps that any parameter has done."""
    return max((int(slots["step"]) for slots in optimizer.values()), default=0)


def _moments(raw: Mapping[str, Any], shapes: Shapes) -> tuple[OptimizerState, str]:
    """Moments by parameter name, and how they were matched.

    Raises:
        _Misfit: they are not, or not surely, those of the model.
    """
    states = raw.get("state")
    if not isinstance(states, Mapping):
        raise _Misfit("the file's is no state of a torch optimizer")
    if not states:
        raise _Misfit("the file's has not made a step yet")
    keys, how = _keys(raw, states, shapes)
    optimizer = {name: _slots(states.get(keys[name]), name, shape) for name, shape in shapes.items()}
    if all(_is_zero(slots["exp_avg_sq"]) for slots in sorted(optimizer.values(), key=_size)):
        raise _Misfit("the file's moments are all zero beside a step that is not, which Adam never leaves behind")
    return optimizer, how


def _keys(raw: Mapping[str, Any], states: Mapping[Any, Any], shapes: Shapes) -> tuple[dict[str, Any], str]:
    """The key of each parameter in the optimizer's state, and how it is known."""
    if all(isinstance(key, str) and not key.isdigit() for key in states):
        return _by_name({key: key for key in states}, shapes), "their names"
    groups = _groups(raw)
    numbers = [number for group in groups for number in group["params"]]
    names = [name for group in groups for name in _names(group)]
    if len(names) == len(numbers) == len(set(names)):
        return _by_name(dict(zip(names, numbers, strict=True)), shapes), "the names in the file"
    if len(numbers) != len(shapes):
        raise _Misfit(f"the file's has {len(numbers)} parameters, but the model {len(shapes)}")
    held = [_shape(states.get(number)) for number in numbers]
    fitting = [found for found in _orders(groups, shapes) if [shapes[name] for name in found[0]] == held]
    if len(fitting) == 1:
        order, how = fitting[0]
        return dict(zip(order, numbers, strict=True)), how
    _require_adam(states)
    raise _misplaced(held, shapes)


def _by_name(keys: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
    """Keys by the model's own names."""
    try:
        clean, _ = clean_names(keys, "")
    except CheckpointError as error:
        raise _Misfit("the names in the file's do not agree") from error
    missing = [name for name in shapes if name not in clean]
    if missing:
        what = f"the file's has {len(shapes) - len(missing)} of the model's {len(shapes)} parameters"
        raise _Misfit(f"{what}; it lacks `{missing[0]}`" + (" and others" if len(missing) > 1 else ""))
    return {name: clean[name] for name in shapes}


def _orders(groups: Sequence[Mapping[str, Any]], shapes: Shapes) -> list[tuple[list[str], str]]:
    """In which order the parameters may be: the model's own; of two groups also split by weight decay's usual rule."""
    order = list(shapes)
    found = [(order, "the order of the model's parameters")]
    if len(groups) == 2:
        wide = [name for name in order if len(shapes[name]) > 1]
        flat = [name for name in order if len(shapes[name]) <= 1]
        how = "the order of the model's parameters in a group of matrices and one of vectors"
        sizes = [len(group["params"]) for group in groups]
        found += [(a + b, how) for a, b in ((wide, flat), (flat, wide)) if [len(a), len(b)] == sizes and a and b]
    return found


def _slots(raw: object, name: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """One parameter's moments and step."""
    if not isinstance(raw, Mapping):
        raise _Misfit(f"the file's has nothing for `{name}`")
    _require_adam({name: raw})
    step = count(raw.get("step"))
    if step is None:
        raise _Misfit(f"the file's has no step for `{name}`")
    if step == 0:
        raise _Misfit(f"the file's has done no step on `{name}`, but has moments for it")
    slots: dict[str, Tensor] = {}
    for slot in MOMENTS:
        tensor = as_tensor(raw.get(slot))
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise _Misfit(f"the file's has no Adam moments of shape {list(shape)} for `{name}`")
        if tensor.layout != torch.strided or tensor.is_meta:
            raise _Misfit(f"the file's moments for `{name}` are not dense")
        slots[slot] = tensor.detach()
    return {**slots, "step": torch.tensor(float(step))}


def _require_adam(states: Mapping[Any, Any]) -> None:
    """Refuse the slots of other optimizers by name."""
    for state in states.values():
        slots = {str(key) for key in state} if isinstance(state, Mapping) else set()
        if not slots.issuperset(MOMENTS) or "mu_product" in slots:
            kind = next((kind for slot, kind in _OTHER_SLOTS.items() if slot in slots), "")
            held = ", ".join(sorted(slots)[:4]) or "nothing"
            raise _Misfit(f"the file's holds {held}, not Adam's moments" + (f": it is of {kind}" if kind else ""))


def _misplaced(held: Sequence[tuple[int, ...] | None], shapes: Shapes) -> _Misfit:
    """Which parameter is the first that does not fit."""
    for found, (name, shape) in zip(held, shapes.items(), strict=True):
        if found != shape:
            there = f"{list(found)}" if found is not None else "none"
            return _Misfit(f"the file's has no Adam moments of shape {list(shape)} for `{name}`, but {there}")
    return _Misfit("more than one order of its parameters fits the model")


def _groups(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = raw.get("param_groups")
    found = [group for group in groups if isinstance(group, Mapping)] if isinstance(groups, (list, tuple)) else []
    return [group for group in found if _are_keys(group.get("params"))]


def _are_keys(values: object) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(value, (int, str)) for value in values)


def _names(group: Mapping[str, Any]) -> list[str]:
    """The names of a group's parameters, by newer versions of torch or of its parallel wrappers."""
    names = group.get("param_names")
    names = names if isinstance(names, (list, tuple)) else group["params"]
    return [name for name in names if isinstance(name, str)]


def _shape(state: object) -> tuple[int, ...] | None:
    moment = as_tensor(state.get(MOMENTS[0])) if isinstance(state, Mapping) else None
    return tuple(moment.shape) if isinstance(moment, Tensor) else None


def _size(slots: Mapping[str, Tensor]) -> int:
    return slots["exp_avg_sq"].numel()


def _is_zero(tensor: Tensor) -> bool:
    """Stops at the first piece with a number in it, which is nearly always the first of the smallest tensor."""
    flat = tensor.reshape(-1)
    return not any(bool(flat[at : at + _PIECE].any()) for at in range(0, flat.numel(), _PIECE))


def _settings(raw: Mapping[str, Any]) -> list[Decision]:
    """What the file says of its settings, which are not carried over."""
    why = "a setting of the file's optimizer, for information; settings come from the run's configuration"
    decisions: list[Decision] = []
    for key in _SETTINGS:
        values = [_setting(group.get(key)) for group in _groups(raw)]
        distinct = [value for i, value in enumerate(values) if value is not None and value not in values[:i]]
        if distinct:
            value = distinct[0] if len(distinct) == 1 else distinct
            decisions.append(Decision(f"optimizer.{key}", DecisionSource.FILE, value, why))
    return decisions


def _setting(value: object) -> Any:
    if isinstance(value, (list, tuple)):
        return [number(item) for item in value][:4]
    return number(value)


def _left(raw: Mapping[str, Any]) -> list[Decision]:
    """That AMSGrad's maxima are left."""
    states = raw["state"].values()
    if not any("max_exp_avg_sq" in state for state in states if isinstance(state, Mapping)):
        return []
    why = "AMSGrad's maxima are not carried over, because the optimizers here do not use them"
    return [Decision("optimizer.max_exp_avg_sq", DecisionSource.DEFAULT, "left", why)]
