"""A training state in Ray's object store: put there once, fetched once by every node, read in place by its processes.

Contract: what comes out equals what went in, bit for bit; its tensors must not be written to.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from orchestrator.checkpoint import TrainState


def share(state: TrainState) -> Any:
    """Put a state into Ray's object store; what comes back is what `shared` takes, on any node."""
    return ray.put(_packed(state))


def shared(reference: Any) -> TrainState:
    """The state behind a reference; its tensors lie in memory that all processes of this node share."""
    state: TrainState = _unpacked(ray.get(reference))
    return state


@dataclass(frozen=True)
class _Bytes:
    """A tensor as bytes, which Ray hands on without copying."""

    data: np.ndarray[Any, Any]
    dtype: torch.dtype
    shape: tuple[int, ...]


def _packed(state: TrainState) -> TrainState:
    return _mapped(state, Tensor, lambda tensor: _Bytes(_flat(tensor), tensor.dtype, tuple(tensor.shape)))


def _unpacked(state: TrainState) -> TrainState:
    return _mapped(state, _Bytes, _tensor)


def _mapped(state: TrainState, kind: type, change: Callable[[Any], Any]) -> TrainState:
    def walk(value: Any) -> Any:
        if isinstance(value, kind):
            return change(value)
        return {key: walk(item) for key, item in value.items()} if isinstance(value, dict) else value

    parts = {name: walk(getattr(state, name)) for name in ("weights", "optimizer", "ema", "rng")}
    return replace(state, **parts)


def _flat(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()


def _tensor(content: _Bytes) -> Tensor:
    if not content.data.size:
        return torch.empty(content.shape, dtype=content.dtype)
    with warnings.catch_warnings():  # that nobody may write into it is the point
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(content.data).view(content.dtype).reshape(content.shape)
