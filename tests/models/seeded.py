"""Weights and inputs that any machine can make again, for golden embeddings.

Every tensor has its own counter-based stream, keyed by its name, so that neither order nor numpy version matters.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor, nn


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers that belong to a name."""
    generator = np.random.Generator(np.random.Philox(key=np.array([5124, zlib.crc32(name.encode())], dtype=np.uint64)))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


def seeded_weights(model: nn.Module) -> dict[str, Tensor]:
    """A state dict in which no tensor has the value that its initialisation gives."""
    return {name: _weight(name, tensor) for name, tensor in model.state_dict().items()}


def seeded_inputs(frames: tuple[int, ...], audio: tuple[int, ...], batch: int = 2) -> tuple[Tensor, Tensor]:
    """A batch of what a net reads: frames in [-1, 1], mel in [-4, 4]."""
    return draw("frames", (batch, *frames)).tanh(), (draw("audio", (batch, *audio)) * 1.5).clamp(-4, 4)


def _weight(name: str, tensor: Tensor) -> Tensor:
    values = draw(name, tuple(tensor.shape))
    if name.endswith("num_batches_tracked"):
        return torch.full_like(tensor, 7, device="cpu")
    if name.endswith("running_var"):
        return 0.5 + values.abs()
    if tensor.ndim == 1:
        return (1 if name.endswith("weight") else 0) + 0.1 * values
    return values * math.sqrt(2 / max(1, int(np.prod(tensor.shape[1:]))))
