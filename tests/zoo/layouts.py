"""What trainers put around the weights: steps, loss lists, optimizers, schedules, scalers; and other number types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.zoo.case import Good
from tests.zoo.files import torch_file
from tests.zoo.nets import STEPS, net_of, stable_weights, trained, wav2lip_weights

LISTS = {
    "train_step_list": [2, 4, 6],
    "train_loss_list": [0.7, 0.65, 0.6],
    "val_step_list": [3, 6],
    "val_loss_list": [0.68, 0.61],
}


def latentsync(step: Any = 6, **more: Any) -> dict[str, Any]:
    """LatentSync's trainer's file."""
    return {"global_step": step, "state_dict": stable_weights(), **more}


def wav2lip(optimizer: Any = None, prefix: str = "", **more: Any) -> dict[str, Any]:
    """Wav2Lip's trainer's file."""
    weights = {prefix + name: tensor for name, tensor in wav2lip_weights().items()}
    return {"state_dict": weights, "optimizer": optimizer, "global_step": 7, "global_epoch": 1, **more}


def full(**more: Any) -> dict[str, Any]:
    """What a careful loop of one's own saves."""
    return {
        "model": stable_weights(),
        "optimizer": trained().optimizer,
        "scheduler": trained().scheduler,
        "scaler": {
            "scale": 32768.0,
            "growth_factor": 2.0,
            "backoff_factor": 0.5,
            "growth_interval": 2000,
            "_growth_tracker": 5,
        },
        "epoch": 1,
        "step": STEPS,
        "best_loss": 0.25,
        **more,
    }


def _other_optimizer() -> dict[str, Any]:
    """Of a net with other shapes."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(3, 3)) for _ in stable_weights()])
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones(3, 3)
    optimizer.step()
    return optimizer.state_dict()


def _sgd() -> dict[str, Any]:
    model = net_of(stable_weights())
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9).state_dict()


def _two_groups() -> dict[str, Any]:
    """Parameters with and without weight decay; torch numbers them group by group, and notes their names."""
    state = trained().optimizer
    names = list(trained().moments)
    shapes = stable_weights()
    groups = [[n for n in names if shapes[n].ndim > 1], [n for n in names if shapes[n].ndim <= 1]]
    order = [name for group in groups for name in group]
    numbers = [list(range(len(groups[0]))), list(range(len(groups[0]), len(order)))]
    base = {key: value for key, value in state["param_groups"][0].items() if key != "params"}
    return {
        "state": {number: state["state"][names.index(name)] for number, name in enumerate(order)},
        "param_groups": [
            {**base, "weight_decay": decay, "params": params, "param_names": group}
            for decay, params, group in zip((0.01, 0.0), numbers, groups, strict=True)
        ],
    }


# ---- number types


def typed(choose: Callable[[str], torch.dtype]) -> dict[str, Tensor]:
    """The net's tensors in other types."""
    return {name: tensor.to(choose(name)) for name, tensor in stable_weights().items()}


def _half_but_norms(name: str) -> torch.dtype:
    return torch.float32 if "norm" in name else torch.float16


def _in_turn(name: str) -> torch.dtype:
    return (torch.float32, torch.float16, torch.bfloat16, torch.float64)[len(name) % 4]


_TYPES: dict[str, tuple[Callable[[str], torch.dtype], str]] = {
    "float64": (lambda name: torch.float64, "float64"),
    "float16": (lambda name: torch.float16, "float16"),
    "bfloat16": (lambda name: torch.bfloat16, "bfloat16"),
    "float16, norms in float32": (_half_but_norms, "float16"),
    "four types": (_in_turn, "bfloat16"),
}


def _rounded(choose: Callable[[str], torch.dtype]) -> Callable[[], dict[str, Tensor]]:
    return lambda: {name: tensor.float() for name, tensor in typed(choose).items()}


_LATENTSYNC: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "released": (lambda: {"state_dict": stable_weights()}, {"step": 0}),
    "trainer": (lambda: latentsync(**LISTS), {"history": True}),
    "step without lists": (latentsync, {}),
    "lists without a step": (lambda: {"state_dict": stable_weights(), **LISTS}, {"step": None, "history": True}),
    "lists that go on after the step": (
        lambda: latentsync(4, **LISTS),
        {"step": 4, "history": None, "decides": ("list",)},
    ),
    "lists of different lengths": (
        lambda: latentsync(**{**LISTS, "train_loss_list": [0.7]}),
        {"history": None, "decides": ("list",)},
    ),
    "step is a string": (lambda: latentsync("6"), {"decides": ("6",)}),
    "step is a numpy scalar": (lambda: latentsync(np.int64(6)), {}),
    "step is a tensor": (lambda: latentsync(torch.tensor(6)), {}),
    "step is a tensor of one": (lambda: latentsync(torch.tensor([6])), {}),
    "step is a whole float": (lambda: latentsync(6.0), {}),
    "losses are tensors and numpy scalars": (
        lambda: latentsync(**{**LISTS, "val_loss_list": [torch.tensor(0.5), np.float32(0.25)]}),
        {"history": True},
    ),
    "step is nonsense": (lambda: latentsync("many"), {"step": 0, "decides": ("many",)}),
    "step is negative": (lambda: latentsync(-3), {"step": 0}),
}

_ADAM = {"moments": lambda: trained("wav2lip", "Adam").moments}
_WAV2LIP: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "Wav2Lip, optimizer None": (wav2lip, {}),
    "Wav2Lip with Adam": (lambda: wav2lip(trained("wav2lip", "Adam").optimizer), _ADAM),
    "Wav2Lip, wrapped, with best_loss": (lambda: wav2lip(prefix="module.", best_loss=0.25), {"best": 0.25}),
}

_FULL: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "everything": (full, {"scaler": True, "best": 0.25}),
    "everything, other names": (
        lambda: {
            "model_state_dict": stable_weights(),
            "optimizer_state_dict": trained().optimizer,
            "scheduler_state_dict": trained().scheduler,
            "epoch": 1,
            "global_step": STEPS,
        },
        {},
    ),
    "wrapped weights with an optimizer": (
        lambda: {
            "model": {f"module.{name}": tensor for name, tensor in stable_weights().items()},
            "optimizer": trained().optimizer,
            "step": STEPS,
            "epoch": 1,
        },
        {},
    ),
    "optimizer with two groups and names": (lambda: full(optimizer=_two_groups()), {"scaler": True, "best": 0.25}),
    "half-precision weights with an optimizer": (
        lambda: full(model=typed(lambda name: torch.float16)),
        {"scaler": True, "best": 0.25, "expected": _rounded(lambda name: torch.float16)},
    ),
    "optimizer of another net": (
        lambda: full(optimizer=_other_optimizer()),
        {"scaler": True, "best": 0.25, "moments": None, "decides": ("fresh",)},
    ),
    "optimizer without Adam's moments": (
        lambda: full(optimizer=_sgd()),
        {"scaler": True, "best": 0.25, "moments": None, "decides": ("fresh",)},
    ),
    "optimizer that has not stepped": (
        lambda: full(optimizer={**trained().optimizer, "state": {}}),
        {"scaler": True, "best": 0.25, "moments": None, "decides": ("fresh",)},
    ),
}

CASES: tuple[Good, ...] = (
    *(
        Good(f"LatentSync: {name}", "LatentSync", torch_file(make), **{"step": 6, **more})
        for name, (make, more) in _LATENTSYNC.items()
    ),
    *(
        Good(name, "Wav2Lip", torch_file(make), **{"expected": wav2lip_weights, "step": 7, "epoch": 1, **more})
        for name, (make, more) in _WAV2LIP.items()
    ),
    *(
        Good(
            name,
            "full dict",
            torch_file(make),
            **{"moments": lambda: trained().moments, "step": STEPS, "epoch": 1, **more},
        )
        for name, (make, more) in _FULL.items()
    ),
    *(
        Good(
            name,
            "number types",
            torch_file(lambda choose=choose: {"state_dict": typed(choose)}),
            expected=_rounded(choose),
            decides=(word,),
        )
        for name, (choose, word) in _TYPES.items()
    ),
)
