"""What every description of a SyncNet tells: which input it reads, whether it can work, whether it can be trained here.

Shapes are without the batch dimension.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from orchestrator.config.media import N_MELS, mel_columns
from orchestrator.config.section import Section


@dataclass(frozen=True)
class InputShape:
    """What a model reads, without the batch dimension."""

    frames: tuple[int, ...]
    """Frames: (num_frames x channels, height, width) where they are stacked in the channels, else
    (channels, num_frames, height, width)."""
    audio: tuple[int, ...]
    """Mel window: (1, 80, columns); another family's features; or a waveform: (samples,)."""


class SyncNetConfig(Section):
    """The base of all families. Each also has `name`, `num_frames`, `resolution`, `lower_half` and `latent_space`, as
    a setting where it can vary and as a constant where it cannot."""

    @property
    @abstractmethod
    def input_shape(self) -> InputShape:
        """The shape of one window."""

    @property
    def problems(self) -> list[str]:
        """What keeps this from being a working SyncNet, beyond what its fields already refuse; one sentence each."""
        return []

    @property
    def training_problem(self) -> str | None:
        """Why a corpus of windows (of pixels or latents) and 80-bin mel cannot train or evaluate it, or none where it
        can."""
        return None


def stacked_frames(num_frames: int, resolution: int, *, lower_half: bool, channels: int = 3) -> tuple[int, int, int]:
    """Frames stacked in the channels, frame-major."""
    return num_frames * channels, resolution // 2 if lower_half else resolution, resolution


def mel_window(num_frames: int) -> tuple[int, int, int]:
    """The mel of as much time as the frames take."""
    return 1, N_MELS, mel_columns(num_frames)
