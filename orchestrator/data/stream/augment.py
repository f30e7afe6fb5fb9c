"""Changes to training windows: how much is a pure function of (seed, position), and whole batches are changed at once.

Promises: an `Augmenter` holds no state, so a resumed run augments as one that never stopped, on any number of workers;
`augment_frames` and `augment_mel` run on the device of the batch and give every sample exactly what it would get alone.
Labels are never touched, nor looked at.

Pixels stay uint8: x -> round(clip(((1 + b) x - 127.5) (1 + c) + 127.5)), then the mirror image. Mel is stored with 8
units per 100 dB, so a gain of g dB adds 0.08 g to it; what is stored as silence (-4) stays silence, because how quiet
it was is not known, and the rest is kept within [-4, 4]. Silenced stretches are set to -4.
"""

# B samples, C channels, H W pixels, L mel columns

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from orchestrator.config.data import AugmentConfig
from orchestrator.config.media import N_MELS
from orchestrator.data.stream.keyed import Domain, scale, unit, words

_SILENCE, _LOUDEST = -4.0, 4.0
_PER_DB = 0.08
_GREY = 127.5


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to one sample; the defaults do nothing."""

    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    gain_db: float = 0.0
    columns: tuple[int, int] = (0, 0)
    """The first silenced mel column, and the one behind the last."""
    bins: tuple[int, int] = (0, 0)
    """The first silenced mel bin, and the one behind the last."""


@dataclass(frozen=True)
class Changes:
    """What is done to the samples of a batch; none where the settings never do it."""

    flip: Tensor | None = None
    """bool `(B,)`."""
    line: Tensor | None = None
    """float32 `(B, 2)`: pixels are multiplied by the first and raised by the second."""
    gain: Tensor | None = None
    """float32 `(B,)`, added to the mel."""
    columns: Tensor | None = None
    """int64 `(B, 2)`: the silenced columns, first and end."""
    bins: Tensor | None = None
    """int64 `(B, 2)`: the silenced bins, first and end."""

    def to(self, device: torch.device) -> Self:
        """The same on a device; to a GPU without waiting for what it still has to do."""

        def moved(part: Tensor) -> Tensor:
            return (part.pin_memory() if device.type == "cuda" else part).to(device, non_blocking=True)

        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(**{name: None if part is None else moved(part) for name, part in parts.items()})


class Augmenter:
    """Draws the changes of samples.

    Args:
        settings: the greatest changes.
        mel_columns: columns of a mel window.
        seed: seed of everything.
    """

    def __init__(self, settings: AugmentConfig, mel_columns: int, seed: int) -> None:
        self.settings, self.mel_columns, self.seed = settings, mel_columns, seed

    def change(self, index: int) -> Change:
        """What is done to the sample at stream position `index`."""
        most = self.settings
        flip, brightness, contrast, gain, *stretches = words(self.seed, index, Domain.AUGMENT, 8)
        return Change(
            flip=unit(flip) < most.flip,
            brightness=_either_way(brightness, most.brightness),
            contrast=_either_way(contrast, most.contrast),
            gain_db=_either_way(gain, most.gain_db),
            columns=_stretch(stretches[0], stretches[1], most.mel_time, self.mel_columns),
            bins=_stretch(stretches[2], stretches[3], most.mel_bins, N_MELS),
        )

    def changes(self, positions: Sequence[int]) -> Changes:
        """The changes of a batch of samples at these stream positions, as tensors on the CPU."""
        most, each = self.settings, [self.change(position) for position in positions]
        return Changes(
            flip=torch.tensor([change.flip for change in each]) if most.flip else None,
            line=torch.tensor([_line(change) for change in each]) if most.brightness or most.contrast else None,
            gain=torch.tensor([_PER_DB * change.gain_db for change in each]) if most.gain_db else None,
            columns=torch.tensor([change.columns for change in each]) if most.mel_time else None,
            bins=torch.tensor([change.bins for change in each]) if most.mel_bins else None,
        )


def augment_frames(frames: Tensor, changes: Changes) -> Tensor:
    """Brighten, contrast and mirror windows, on their device.

    Args:
        frames: uint8 `(B, C, H, W)`, stacked RGB frames.
        changes: one per sample, on the same device.

    Returns:
        The same shape and type; `frames` itself where nothing is done.
    """
    if changes.line is not None:
        factor, rise = (_each(part, frames) for part in changes.line.unbind(1))
        frames = (frames * factor).add_(rise).clamp_(0, 255).round_().to(frames.dtype)
    if changes.flip is not None:
        frames = torch.where(_each(changes.flip, frames), frames.flip(-1), frames)
    return frames


def augment_mel(mel: Tensor, changes: Changes) -> Tensor:
    """Make windows of sound louder or quieter, and silence stretches of them, on their device.

    Args:
        mel: float32 `(B, 1, 80, L)` in [-4, 4].
        changes: one per sample, on the same device.

    Returns:
        The same shape and type; `mel` itself where nothing is done.
    """
    if changes.gain is not None:
        shifted = (mel + _each(changes.gain, mel)).clamp_(_SILENCE, _LOUDEST)
        mel = torch.where(mel > _SILENCE, shifted, mel)
    for stretches, dim in ((changes.columns, 3), (changes.bins, 2)):
        if stretches is not None:
            mel = mel.masked_fill(_inside(stretches, mel, dim), _SILENCE)
    return mel


def _either_way(word: int, most: float) -> float:
    """A number in [-most, most)."""
    return (2 * unit(word) - 1) * most


def _stretch(width_word: int, place_word: int, most: int, total: int) -> tuple[int, int]:
    """A stretch of 0 to `most` places, somewhere among `total`: (first, end)."""
    width = scale(width_word, min(most, total) + 1)
    first = scale(place_word, total - width + 1)
    return first, first + width


def _line(change: Change) -> tuple[float, float]:
    """Brightness and contrast as factor and rise."""
    return (1 + change.brightness) * (1 + change.contrast), -_GREY * change.contrast


def _each(values: Tensor, batch: Tensor) -> Tensor:
    """`(B,)` in the shape that multiplies whole samples of `batch`."""
    return values.view(-1, *[1] * (batch.ndim - 1))


def _inside(stretches: Tensor, batch: Tensor, dim: int) -> Tensor:
    """bool, broadcastable to `batch`: which places along `dim` lie in a sample's stretch."""
    places = torch.arange(batch.shape[dim], device=batch.device).view(*[-1 if k == dim else 1 for k in range(4)])
    first, end = (_each(part, batch) for part in stretches.unbind(1))
    return (places >= first) & (places < end)
