"""Averaged copies of the weights (EMA, SWA), alone and beside the plain ones.

The plain set is taken unless `weights="ema"` says otherwise, and a decision tells that there was another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from orchestrator.errors import RefusalReason
from tests.zoo.case import Bad, Good
from tests.zoo.files import released, torch_file
from tests.zoo.nets import net_of, other_weights, stable_weights, trained

Weights = dict[str, Tensor]


def averaged_model(weights: Weights) -> Weights:
    """What torch's own averaging saves: `n_averaged` and `module.` names."""
    return dict(torch.optim.swa_utils.AveragedModel(net_of(weights)).state_dict())


def under(prefix: str, weights: Weights) -> Weights:
    """The same tensors by longer names."""
    return {prefix + name: tensor for name, tensor in weights.items()}


def _timm() -> dict[str, Any]:
    return {
        "epoch": 3,
        "arch": "syncnet",
        "state_dict": stable_weights(),
        "optimizer": trained().optimizer,
        "version": 2,
        "state_dict_ema": other_weights(),
    }


def _shadow_list() -> dict[str, Any]:
    shadow = {"decay": 0.999, "num_updates": 7, "shadow_params": list(other_weights().values())}
    return {"model": stable_weights(), "ema": {**shadow, "collected_params": None}}


def _named_shadows() -> dict[str, Any]:
    return {"model": stable_weights(), "ema": {"decay": 0.999, "shadow": other_weights()}}


def _ema_pytorch() -> dict[str, Any]:
    marks = {"initted": torch.tensor(True), "step": torch.tensor(9)}
    return {**marks, **under("online_model.", stable_weights()), **under("ema_model.", other_weights())}


def _without_dots() -> dict[str, Any]:
    """As latent diffusion's trainers keep averages: buffers, whose names may not have dots."""
    shadows = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in other_weights().items()}
    marks = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(9, dtype=torch.int32)}
    return {"state_dict": {**under("model.", stable_weights()), **marks, **shadows}, "global_step": 9}


_TWO_SETS: dict[str, Callable[[], Any]] = {
    "state_dict and state_dict_ema": lambda: {"state_dict": stable_weights(), "state_dict_ema": other_weights()},
    "model and model_ema": lambda: {"model": stable_weights(), "model_ema": other_weights()},
    "model and ema": lambda: {"model": stable_weights(), "ema": other_weights()},
    "ema before model": lambda: {"ema": other_weights(), "model": stable_weights()},
    "model and ema_state_dict": lambda: {"model_state_dict": stable_weights(), "ema_state_dict": other_weights()},
    "model and ema.module": lambda: {"model": stable_weights(), "ema": {"module": other_weights(), "updates": 9}},
    "model and an AveragedModel": lambda: {"model": stable_weights(), "ema": averaged_model(other_weights())},
    "names with ema. beside plain ones": lambda: {**stable_weights(), **under("ema.", other_weights())},
    "names with model. and model_ema.": lambda: {
        "state_dict": {**under("model.", stable_weights()), **under("model_ema.", other_weights())}
    },
    "online_model. and ema_model.": _ema_pytorch,
    "a list of shadow parameters": _shadow_list,
    "a dict of shadow parameters": _named_shadows,
}

CASES: tuple[Good | Bad, ...] = (
    Good(
        "AveragedModel alone",
        "averages",
        torch_file(lambda: averaged_model(stable_weights())),
        decides=("averag",),
    ),
    Good(
        "AveragedModel in state_dict",
        "averages",
        torch_file(lambda: {"state_dict": averaged_model(stable_weights()), "epoch": 2}),
        epoch=2,
        decides=("averag",),
    ),
    Good(
        "AveragedModel alone, averages wanted",
        "averages",
        torch_file(lambda: averaged_model(stable_weights())),
        options={"weights": "ema"},
    ),
    Good(
        "state_dict_ema alone", "averages", torch_file(lambda: {"state_dict_ema": stable_weights()}), decides=("ema",)
    ),
    *(Good(name, "averages", torch_file(make), decides=("ema",)) for name, make in _TWO_SETS.items()),
    *(
        Good(
            f"{name}, averages wanted",
            "averages",
            torch_file(make),
            expected=other_weights,
            options={"weights": "ema"},
            decides=("ema",),
        )
        for name, make in _TWO_SETS.items()
    ),
    Good(
        "timm's file with an optimizer",
        "averages",
        torch_file(_timm),
        step=None,
        epoch=3,
        moments=lambda: trained().moments,
        decides=("ema",),
    ),
    Good("averages with names without dots", "averages", torch_file(_without_dots), step=9, decides=("ema",)),
    Good(
        "averages with names without dots, wanted",
        "averages",
        torch_file(_without_dots),
        step=9,
        expected=other_weights,
        options={"weights": "ema"},
    ),
    Bad(
        "no averages, but they are wanted",
        "averages",
        torch_file(released),
        (RefusalReason.NO_WEIGHTS, RefusalReason.MISMATCH),
        says=("ema",),
        options={"weights": "ema"},
    ),
)
