"""What every SyncNet here is: two encoders behind one call, and the conversion from stored pixels to its input.

Shapes: B windows, T frames, C channels, H W pixels, L mel columns, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.config.model import InputShape, StableSyncNetConfig, Wav2LipSyncNetConfig, input_shape


class SyncNet(nn.Module):
    """Base of all SyncNets: `model(frames, audio) -> (vision_embeds, audio_embeds)`.

    Subclasses implement `embed_frames` and `embed_audio`, and name how their upstream reads pixels.
    """

    def __init__(self, config: StableSyncNetConfig | Wav2LipSyncNetConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def input_shape(self) -> InputShape:
        """The shapes of one window, without the batch dimension."""
        return input_shape(self.config)

    def forward(self, frames: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Embed windows.

        Args:
            frames: (B, T*C, H, W), as `pixels_to_input` gives them.
            audio: (B, 1, 80, L) log-mel in [-4, 4].

        Returns:
            vision_embeds and audio_embeds, each (B, E), unit vectors.
        """
        vision = F.normalize(self.embed_frames(frames).flatten(1), dim=1)
        speech = F.normalize(self.embed_audio(audio).flatten(1), dim=1)
        return vision, speech

    def embed_frames(self, frames: Tensor) -> Tensor:
        """(B, T*C, H, W) -> (B, E, 1, 1), not normalised."""
        raise NotImplementedError

    def embed_audio(self, audio: Tensor) -> Tensor:
        """(B, 1, 80, L) -> (B, E, 1, 1), not normalised."""
        raise NotImplementedError

    def pixels_to_input(self, pixels: Tensor) -> Tensor:
        """Stored windows, uint8 RGB (B, T*3, h, w), to what this net reads, float (B, T*3, H, W).

        Runs on the device of `pixels`. Windows stored at another resolution are resized as preparation would do it.
        """
        raise NotImplementedError


def fit_pixels(pixels: Tensor, height: int, width: int) -> Tensor:
    """uint8 (B, T*3, h, w) -> float32 in 0..255 of the wanted size, by the field's exact bicubic resize."""
    values = pixels.float()
    if values.shape[-2:] == (height, width):
        return values
    resized = F.interpolate(values, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 255).round()


def initialise(model: nn.Module, seed: int) -> None:
    """Give every parameter its family's default start, reproducibly and without touching the global RNG."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
