"""Networks that a set of tensors may belong to, and how far off they are. Each family's file makes its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from orchestrator.checkpoint.state import AnyModelConfig, Decision
from orchestrator.models import skeleton

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor shapes by name."""
TOO_WIDE = 1 << 16
"""No layer has as many channels; a damaged file may say so, and not even a model without memory could be built."""


@dataclass(frozen=True)
class Candidate:
    """A network that these tensors may be, read off some of them."""

    config: AnyModelConfig
    """The network."""
    how: str
    """For a person, e.g. `stable_syncnet (16_pixel_attn layout)`."""
    decisions: tuple[Decision, ...]
    """What is assumed if all tensors fit."""


@dataclass(frozen=True)
class Difference:
    """What of a network's tensors is otherwise; false when nothing is."""

    missing: tuple[str, ...]
    """Names that are not there."""
    extra: tuple[str, ...]
    """Names that are no part of the network."""
    wrong: tuple[str, ...]
    """Sentences about tensors of another shape."""

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.wrong)

    def __str__(self) -> str:
        parts = {"missing": self.missing, "not part of it": self.extra, "of another shape": self.wrong}
        return "; ".join(listed(what, names) for what, names in parts.items() if names)


def difference(config: AnyModelConfig, shapes: Shapes) -> Difference:
    """Compare a network's tensors with these.

    Raises:
        ConfigError: `config` is no working network.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in skeleton(config).state_dict().items()}
    return Difference(
        missing=tuple(name for name in expected if name not in shapes),
        extra=tuple(name for name in shapes if name not in expected),
        wrong=tuple(
            f"`{name}` is {list(shapes[name])} instead of {list(shape)}"
            for name, shape in expected.items()
            if shapes.get(name, shape) != shape
        ),
    )


def type_difference(config: AnyModelConfig, weights: Mapping[str, Tensor]) -> str:
    """Integers where the network has reals or the other way round; empty when there are none."""
    wrong = [
        f"`{name}` is {str(weights[name].dtype).removeprefix('torch.')}"
        for name, tensor in skeleton(config).state_dict().items()
        if tensor.is_floating_point() != weights[name].is_floating_point()
    ]
    return listed("of another kind of number", wrong) if wrong else ""


def listed(what: str, names: tuple[str, ...] | list[str]) -> str:
    """`7 missing (a, b, c, d ...)`."""
    return f"{len(names)} {what} ({', '.join(names[:4])}{' ...' if len(names) > 4 else ''})"


def extent(shapes: Shapes, name: str, axis: int) -> int:
    """One size of one tensor; 1 where there is none or an absurd one, which then shows as a difference."""
    shape = shapes.get(name, ())
    return shape[axis] if axis < len(shape) and 0 < shape[axis] < TOO_WIDE else 1
