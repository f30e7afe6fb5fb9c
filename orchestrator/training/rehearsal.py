"""Forward and backward passes on random windows that leave no trace: weights, buffers, gradients and random numbers
are afterwards what they were before. They show whether something works, or fits, before anything depends on it.
"""

# B windows, E embedding

from __future__ import annotations

import torch
from torch import nn

from orchestrator.config.model import input_shape
from orchestrator.config.schema import RunConfig
from orchestrator.training.precision import autocast


def rehearse(net: nn.Module, config: RunConfig, device: torch.device, batch: int, times: int = 1) -> None:
    """Embed random windows and go back through the net.

    Args:
        net: a SyncNet, wrapped or not, in training mode, without gradients.
        config: of which the shapes and the precision are taken.
        device: where the net lives.
        batch: windows per pass.
        times: passes.
    """
    shape, kept = input_shape(config.model), [buffer.detach().clone() for buffer in net.buffers()]
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            for _ in range(times):
                frames, audio = (torch.rand(batch, *part, device=device) for part in (shape.frames, shape.audio))
                with autocast(config.train.precision, device):
                    vision_BE, audio_BE = net(frames, audio)
                (vision_BE.float() * audio_BE.float()).sum().backward()
    finally:
        net.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in zip(net.buffers(), kept, strict=True):
                buffer.copy_(value)
