"""An exponential average of the weights, which is then what is judged and handed on.

Contract: `average = decay * average + (1 - decay) * weight` after every step, for every parameter that trains; frozen
parameters and buffers are those of the net. Source: Polyak and Juditsky, "Acceleration of stochastic approximation by
averaging", 1992.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from orchestrator.training.parallel import like


class WeightAverage:
    """The average of what trains of a net, beside it on its device.

    Args:
        model: the net, in the form in which it trains.
        decay: in (0, 1): about 1 / (1 - decay) steps are averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._decay = decay
        self.values: dict[str, Tensor] = {name: value.detach().clone() for name, value in self._parameters.items()}
        """The average by parameter name."""

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        weights = [parameter.detach() for parameter in self._parameters.values()]
        torch._foreach_lerp_(list(self.values.values()), weights, 1 - self._decay)

    @torch.no_grad()
    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from an average that was saved; entries that are not averaged here are passed over."""
        for name, value in self.values.items():
            value.copy_(like(saved[name], self._parameters[name]))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the net while the block runs, and then the weights back, bit for bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.values[name])
            self.values[name].copy_(kept)
