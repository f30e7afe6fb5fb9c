"""What every SyncNet here is: two encoders behind one call, and the conversion from stored pixels to its input.

Shapes: B windows, T frames, C channels, H W pixels, L mel columns, E embedding.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.config.model import AnyModelConfig, InputShape, input_shape


class SyncNet(nn.Module):
    """Base of all SyncNets: `model(frames, audio) -> (vision_embeds, audio_embeds)`.

    Subclasses implement `embed_frames` and `embed_audio`, and name how their upstream reads pixels.
    """

    unit_embeddings: ClassVar[bool] = True
    """Whether the embeddings are (B, E) unit vectors. Where not, they are raw as upstream's, in the shapes that the
    family's own docstring tells."""

    def __init__(self, config: AnyModelConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def input_shape(self) -> InputShape:
        """The shapes of one window, without the batch dimension."""
        return input_shape(self.config)

    def forward(self, frames: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Embed windows: exactly the embeddings of upstream.

        Args:
            frames: (B, *input_shape.frames), as `pixels_to_input` gives them.
            audio: (B, *input_shape.audio); log-mel in [-4, 4] for all that can be trained here.

        Returns:
            vision_embeds and audio_embeds, each (B, E), unit vectors where `unit_embeddings`.
        """
        vision, speech = self.embed_frames(frames), self.embed_audio(audio)
        if not self.unit_embeddings:
            return vision, speech
        return F.normalize(vision.flatten(1), dim=1), F.normalize(speech.flatten(1), dim=1)

    def blocks(self) -> list[nn.Module]:
        """The parts that are recomputed, compiled and sharded as one each; none of a net that is not trained here.

        None lies within another; the forward pass calls each once, as a module.
        """
        return []

    def embed_frames(self, frames: Tensor) -> Tensor:
        """The frames' embedding, not normalised; (B, E, 1, 1) where `unit_embeddings`."""
        raise NotImplementedError

    def embed_audio(self, audio: Tensor) -> Tensor:
        """The audio's embedding, not normalised; (B, E, 1, 1) where `unit_embeddings`."""
        raise NotImplementedError

    def pixels_to_input(self, pixels: Tensor) -> Tensor:
        """Stored windows, uint8 RGB (B, T*3, h, w), to what this net reads, float (B, *input_shape.frames).

        Runs on the device of `pixels`. Windows stored at another resolution are resized as preparation would do it. A
        net in `latent_space` reads float16 latents (B, T*C, h, w) instead, which must have its size.
        """
        if self.config.latent_space:
            return pixels.float()
        height, width = self.input_shape.frames[-2:]
        return self.values_to_input(fit_pixels(pixels, height, width))

    def values_to_input(self, values: Tensor) -> Tensor:
        """The last step of `pixels_to_input`, which lets gradients through: float RGB in 0..255 (B, T*3, H, W), of the
        net's own size, to (B, *input_shape.frames). Not for a net in `latent_space`, which reads latents as they are.
        """
        raise NotImplementedError


def fit_pixels(pixels: Tensor, height: int, width: int) -> Tensor:
    """uint8 (B, T*3, h, w) -> float32 in 0..255 of the wanted size, by the field's exact bicubic resize."""
    values = pixels.float()
    if values.shape[-2:] == (height, width):
        return values
    resized = F.interpolate(values, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 255).round()


def signed_rgb(values: Tensor) -> Tensor:
    """RGB in 0..255 -> RGB in [-1, 1]."""
    return (values / 255 - 0.5) / 0.5


def rgb_to_bgr(stacked: Tensor) -> Tensor:
    """(B, T*3, H, W) -> the same with the colours of each frame in OpenCV's order, in which many nets were trained."""
    return stacked.unflatten(1, (-1, 3)).flip(2).flatten(1, 2)


def initialise(model: nn.Module, seed: int) -> None:
    """Give every parameter its family's default start, reproducibly and without touching the global RNG."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
