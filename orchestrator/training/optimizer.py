"""AdamW as this product runs it: one fused kernel, which also skips a bad step by itself, without asking the host."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orchestrator.config.schema import OptimConfig
from orchestrator.training.freezing import trained


def build_optimizer(model: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """AdamW over all that trains; fused is the same mathematics in one kernel, 8 times faster on a CPU."""
    return torch.optim.AdamW(
        trained(model),
        lr=optim.lr,
        betas=optim.betas,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        fused=True,
    )


class Buffers:
    """What a net counts besides its weights: the running averages of batch norm, which a bad step must not spoil.

    Args:
        model: the net.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._kept: list[Tensor] = []

    def keep(self) -> None:
        """Remember them as they are before a step."""
        self._kept = [buffer.detach().clone() for buffer in self._buffers]

    def undo(self, bad: Tensor) -> None:
        """Put them back where `bad` is 1, without asking the host."""
        for buffer, kept in zip(self._buffers, self._kept, strict=True):
            buffer.copy_(torch.where(bad.bool(), kept, buffer))


def apply_gradients(optimizer: torch.optim.AdamW, scaler: torch.amp.GradScaler, bad: Tensor) -> None:
    """Take the step, and forget the gradients.

    Args:
        optimizer: fused.
        scaler: already asked to unscale.
        bad: float scalar on the device: where it is 1, weights, moments and step counters stay as they are.
    """
    # the fused kernel looks for these two, as `GradScaler.step` leaves them; that one would look at the gradients only,
    # and not at their norm, which may overflow although they do not
    optimizer.grad_scale, optimizer.found_inf = None, bad  # type: ignore[attr-defined]
    optimizer.step()
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
