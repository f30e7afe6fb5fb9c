"""The convolutional towers that Wav2Lip's SyncNet and its descendants are made of, from a table of stages.

Tensor names: `<i>.conv_block.0` the convolution, `<i>.conv_block.1` its batch norm, `<i>.act.weight` a PReLU's slope.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

Activation = Callable[[], nn.Module]


@dataclass(frozen=True)
class Stage:
    """A convolution, and the residual 3x3 blocks of the same width behind it."""

    channels: int
    """Channels it gives."""
    kernel: int = 3
    """Side of the kernel."""
    stride: int | tuple[int, int] = 1
    """Stride, as (down, across) where they differ."""
    padding: int = 1
    """Zeros on each side."""
    residuals: int = 0
    """How many residual blocks follow."""


def tower(
    in_channels: int, stages: Sequence[Stage], activation: Activation = nn.ReLU, relu_tail: int = 0
) -> nn.Sequential:
    """All blocks in a row; the last `relu_tail` stages have ReLU, the others `activation`."""
    blocks: list[ConvBlock] = []
    for place, stage in enumerate(stages):
        act = nn.ReLU if place >= len(stages) - relu_tail else activation
        convolution = nn.Conv2d(in_channels, stage.channels, stage.kernel, stage.stride, stage.padding)
        blocks.append(ConvBlock(convolution, act()))
        in_channels = stage.channels
        blocks += [_residual(in_channels, act()) for _ in range(stage.residuals)]
    return nn.Sequential(*blocks)


class ConvBlock(nn.Module):
    """Convolution and batch norm, the input added where `residual`, and only then the activation."""

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module, *, residual: bool = False) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))
        self.act = activation
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv_block(x)
        return self.act(out + x if self.residual else out)


def _residual(channels: int, activation: nn.Module) -> ConvBlock:
    return ConvBlock(nn.Conv2d(channels, channels, 3, padding=1), activation, residual=True)


MEL_STAGES = (
    Stage(32, residuals=2),
    Stage(64, stride=(3, 1), residuals=2),
    Stage(128, stride=3, residuals=2),
    Stage(256, stride=(3, 2), residuals=2),
    Stage(512, padding=0),
    Stage(512, kernel=1, padding=0),
)
"""Wav2Lip's audio encoder: (1, 80, 16) -> (512, 1, 1)."""
DEEP_MEL_STAGES = (
    *MEL_STAGES[:4],
    Stage(512, residuals=2),
    Stage(1024, padding=0),
    Stage(1024, kernel=1, padding=0),
)
"""The one of the later forks: (1, 80, 16) -> (1024, 1, 1)."""
