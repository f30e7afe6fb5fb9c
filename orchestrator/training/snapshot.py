"""Between a live model with its optimizer and the canonical `TrainState`.

Promise: restoring a snapshot gives back every number bit for bit. Optimizer moments are keyed by parameter name, so
that neither parameter order nor wrapping (DDP) matters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from orchestrator.checkpoint import TrainState
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.training.ema import WeightAverage
from orchestrator.training.host_copy import HostCopies
from orchestrator.training.parallel import like, whole

Place = tuple[str, ...]
"""Where a tensor stands in a `TrainState`: the part, the name and, for moments, the slot."""


class Snapshots:
    """Copies of a live net and its optimizer in host memory, which later steps do not change.

    Args:
        device: where the net lives.
    """

    def __init__(self, device: torch.device) -> None:
        self._copies = HostCopies(device)

    def take(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None, rank: int
    ) -> dict[str, Any] | None:
        """`weights`, `optimizer` and `ema` of a `TrainState` on rank 0; the others hold the same and copy nothing.

        Where the net is in shards every rank must call this: putting a tensor together is a collective operation.
        """
        tensors = _live_tensors(model, optimizer, average)
        if rank != 0:
            if _is_sharded(model):
                deque(tensors, maxlen=0)
            return None
        parts: dict[str, Any] = {"weights": {}, "ema": None if average is None else {}, "optimizer": None}
        for (part, name, *slot), tensor in self._copies.take(tensors).items():
            if slot:
                parts[part] = parts[part] or {}
                parts[part].setdefault(name, {})[slot[0]] = tensor
            else:
                parts[part][name] = tensor
        return parts


def restore_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, moments: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Put moments back into an optimizer over what trains of `model`: all that there are for it.

    Parameters that train and have none, because they were frozen until now, start fresh, each with a step counter of
    its own; moments of what is frozen are left out.

    Returns:
        A sentence about each of the two, where there are any.

    Raises:
        CheckpointError: there are moments of no parameter, or of another shape.
    """
    parameters = dict(model.named_parameters())
    wrong = sorted(set(moments) - set(parameters)) + [
        name for name in parameters if name in moments and moments[name]["exp_avg"].shape != parameters[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"the optimizer state does not fit the model: {len(wrong)} parameters differ, the first is {wrong[0]}",
            reason=RefusalReason.MISMATCH,
            hint="start with `start.verb=fork` or `init`, which take a fresh optimizer",
        )
    trains = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    for name, parameter in trains.items():
        if name not in moments:
            continue
        optimizer.state[parameter] = {
            # the step counter stays a float32 tensor on the parameter's device only for fused kernels: the optimizer
            # moves it there itself, so a CPU copy is the neutral form
            key: value.clone() if key == "step" else like(value, parameter)
            for key, value in moments[name].items()
        }
    optimizer.load_state_dict(optimizer.state_dict())
    return _partial_moments(trains.keys(), moments.keys())


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


def _live_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
) -> Iterator[tuple[Place, Tensor]]:
    """Every tensor that a run continues from, whole, under its place in a `TrainState`, one after the other."""
    weights = dict(model.state_dict())
    for name, value in weights.items():
        yield ("weights", name), whole(value.detach())
    if average is not None:
        for name, value in weights.items():
            yield ("ema", name), whole(average.values.get(name, value).detach())
    for name, parameter in model.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            yield ("optimizer", name, slot), whole(value.detach())


def _partial_moments(trains: Set[str], held: Set[str]) -> list[str]:
    """What a person should know where the parameters that train are not those that a state has moments for."""
    notes, fresh, left = [], sorted(trains - held), sorted(held - trains)
    if fresh:
        some = f"{len(fresh)} of {len(trains)} parameters that train, the first is `{fresh[0]}`"
        notes.append(f"the optimizer starts fresh for {some}: the state has no moments for them")
    if left:
        notes.append(f"the state's moments of {len(left)} parameters are left out, because these are frozen now")
    return notes


def _is_sharded(model: nn.Module) -> bool:
    """Whether each rank holds a part of every parameter only."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def _summary(config: Any) -> str:
    channels = [getattr(getattr(config, part, None), "block_out_channels", None) for part in _ENCODERS]
    return f"{config.name} with {config.num_frames} frames at {config.resolution} pixels, channels {channels}"


_ENCODERS = ("visual_encoder", "audio_encoder")
