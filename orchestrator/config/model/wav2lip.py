"""Wav2Lip's SyncNet and the nets that were made from it. Their layers are fixed; only the named options vary."""

from __future__ import annotations

from typing import ClassVar, Literal

from orchestrator.config.model.base import InputShape, SyncNetConfig, mel_window, stacked_frames

ForkVariant = Literal["288_prelu", "288_v2", "384"]
Activation = Literal["relu", "leaky", "tanh", "silu"]

_FORK_RESOLUTIONS: dict[ForkVariant, int] = {"288_prelu": 288, "288_v2": 192, "384": 384}


class _FiveFrames(SyncNetConfig):
    """Five frames of the lower half of a face, and the mel of their time."""

    num_frames: ClassVar[int] = 5
    """Video frames per window."""
    lower_half: ClassVar[bool] = True
    """It sees only the lower half of the face."""
    latent_space: ClassVar[bool] = False
    """It reads pixels."""

    @property
    def resolution(self) -> int:
        """Pixels per side of the aligned face."""
        raise NotImplementedError

    @property
    def input_shape(self) -> InputShape:
        """The stacked frames and the mel of one window."""
        frames = stacked_frames(self.num_frames, self.resolution, lower_half=self.lower_half)
        return InputShape(frames, mel_window(self.num_frames))


class Wav2LipSyncNetConfig(_FiveFrames):
    """`SyncNet_color` of Wav2Lip: 5 frames of 96x96, lower half, BGR. It has no free hyperparameters."""

    name: Literal["wav2lip_syncnet"] = "wav2lip_syncnet"
    """The family."""

    @property
    def resolution(self) -> int:
        """Pixels per side of the aligned face."""
        return 96


class Wav2LipForkConfig(_FiveFrames):
    """The larger SyncNets of the fork primepake/wav2lip_288x288: 5 frames, lower half, BGR."""

    name: Literal["wav2lip_fork"] = "wav2lip_fork"
    """The family."""
    variant: ForkVariant
    """Which of its nets: `288_prelu` (the first release, 288x288 faces), `288_v2` (the later `SyncNet_color` of
    `syncnetv2.py`, 192x192 faces) or `384` (`SyncNet_color_384`)."""

    @property
    def resolution(self) -> int:
        """Pixels per side of the aligned face."""
        return _FORK_RESOLUTIONS[self.variant]


class LatentSyncWav2LipConfig(_FiveFrames):
    """`Wav2LipSyncNet` of LatentSync, the net of its ablation: 5 RGB frames of 256x256, lower half."""

    name: Literal["latentsync_wav2lip_syncnet"] = "latentsync_wav2lip_syncnet"
    """The family."""
    activation: Activation = "leaky"
    """After all but the last layers of each encoder. Weights do not tell it; `leaky` is upstream's default."""

    @property
    def resolution(self) -> int:
        """Pixels per side of the aligned face."""
        return 256
