"""Between a live model with its optimizer and the canonical `TrainState`.

Promise: restoring a snapshot gives back every number bit for bit. Optimizer moments are keyed by parameter name, so
that neither parameter order nor wrapping (DDP) matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.checkpoint import TrainState
from orchestrator.errors import CheckpointError, RefusalReason

Moments = dict[str, dict[str, Tensor]]


def optimizer_moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> Moments | None:
    """Moments by parameter name, on the CPU; none before the first step."""
    if not optimizer.state:
        return None
    return {
        name: {key: value.detach().cpu().clone() for key, value in optimizer.state[parameter].items()}
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    }


def restore_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, moments: Mapping[str, Mapping[str, Any]]
) -> None:
    """Put moments back into an optimizer over `model`'s parameters.

    Raises:
        CheckpointError: a parameter has no moments, or moments of another shape.
    """
    parameters = dict(model.named_parameters())
    wrong = sorted(set(parameters) ^ set(moments)) + [
        name for name in parameters if name in moments and moments[name]["exp_avg"].shape != parameters[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"the optimizer state does not fit the model: {len(wrong)} parameters differ, the first is {wrong[0]}",
            reason=RefusalReason.MISMATCH,
            hint="start with `start.verb=fork` or `init`, which take a fresh optimizer",
        )
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            # the step counter stays a float32 tensor on the parameter's device only for fused kernels: the optimizer
            # moves it there itself, so a CPU copy is the neutral form
            key: value.clone() if key == "step" else value.to(parameter.device, parameter.dtype, copy=True)
            for key, value in moments[name].items()
        }
    optimizer.load_state_dict(optimizer.state_dict())


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a model, strictly.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        model.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise CheckpointError(
            f"the checkpoint's weights do not fit the configured model: {detail}",
            reason=RefusalReason.MISMATCH,
            hint="`orchestrator inspect FILE` shows the architecture of the file; configure the same one",
        ) from None


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights on the CPU, which later training steps do not change."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def check_same_model(state: TrainState, configured: Any) -> None:
    """Refuse a state of another architecture before any tensor is touched.

    Raises:
        CheckpointError: the families or hyperparameters differ.
    """
    if state.model != configured:
        raise CheckpointError(
            "the checkpoint holds another network than the configuration: "
            f"{_summary(state.model)} against {_summary(configured)}",
            reason=RefusalReason.MISMATCH,
            hint="take the `model` section from the checkpoint's state.json, or choose the matching preset",
        )


def _summary(config: Any) -> str:
    channels = [getattr(getattr(config, part, None), "block_out_channels", None) for part in _ENCODERS]
    return f"{config.name} with {config.num_frames} frames at {config.resolution} pixels, channels {channels}"


_ENCODERS = ("visual_encoder", "audio_encoder")
