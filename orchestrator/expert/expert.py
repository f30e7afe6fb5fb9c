"""`SyncExpert`: a trained SyncNet that judges the frames of a generator in training, with gradients for the generator.

Promises: its network is frozen and in eval mode whatever is done to a module that holds it; what it computes for stored
pixels is what training and evaluation compute; the loss is float32 under any autocast; nothing is drawn at random.

The network is no submodule. A generator that keeps an expert as an attribute therefore neither saves its weights, nor
gives them to its optimizer, nor sends them between its workers; but moves them with `.to(...)`.
"""

# B windows, T frames, C channels, H W pixels, L mel columns, E embedding

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.checkpoint import ModelOption, load_model
from orchestrator.checkpoint.storage import Location
from orchestrator.errors import DataError
from orchestrator.expert.checks import Check, Looks, check_arguments, check_choice
from orchestrator.expert.pictures import Layout, Region, covering, network_frames
from orchestrator.expert.sound import mel_windows, network_mel
from orchestrator.models import SyncNet
from orchestrator.models.losses import bce_of_pairs

Reduction = Literal["mean", "sum", "none"]


class SyncExpert(nn.Module):
    """A frozen SyncNet as a loss. `expert(frames, audio)` is `expert.loss(frames, audio)`.

    Frames are (B, T, C, H, W), or (B, C, T, H, W) with `layout="bcthw"`, or stacked (B, T*C, H, W); RGB, float in
    `pixel_range` or uint8; whole aligned faces of any size, or their lower halves with `region="lower_half"`. Networks
    of latents read latents of their own size. Audio is mel, (B, 1, 80, L) or (B, 80, L), as `audio_windows` gives it.

    Args:
        network: any SyncNet that reads mel and can be trained here; it is taken over, frozen and put into eval mode.
        dtype: what the network computes in, whatever autocast is around; left out, its weights stay as they are, and an
            autocast around a call counts.
        pixel_range: what black and white are in float frames.
        check: look at values for NaN and another range in the first call, in every one, or never.

    Raises:
        CheckpointError: `unsupported`, the network reads other features than mel.
        ConfigError: an argument is wrong.
    """

    def __init__(
        self,
        network: SyncNet,
        *,
        dtype: torch.dtype | None = None,
        pixel_range: tuple[float, float] = (-1.0, 1.0),
        check: Check = "first",
    ) -> None:
        super().__init__()
        check_arguments(network.config, dtype, pixel_range, check)
        # in a tuple, where neither state_dict() nor parameters() of any module find it
        self._hidden = (network.to(dtype=dtype).requires_grad_(False).eval(),)
        self._own_precision = dtype is not None
        self.pixel_range, self._looks = pixel_range, Looks(check)
        self.train(False)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Location,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        model_config: ModelOption = None,
        pixel_range: tuple[float, float] = (-1.0, 1.0),
        check: Check = "first",
    ) -> Self:
        """The network of a checkpoint, with the weights that `evaluate` judges: the running average of a run that kept
        one.

        Args:
            checkpoint: a normalized directory, a checkpoint of a run, or any SyncNet file; also a URI.
            device: where to compute; a GPU if there is one.
            model_config: describes the network where a foreign file's weights cannot (see `load_model`).
            dtype, pixel_range, check: as of the class.

        Raises:
            CheckpointError: the file is refused, or its network reads other features than mel.
            ConfigError: an argument is wrong.
        """
        network = load_model(checkpoint, model_config=model_config)
        expert = cls(network, dtype=dtype, pixel_range=pixel_range, check=check)
        return expert.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))

    @property
    def network(self) -> SyncNet:
        """The frozen network."""
        return self._hidden[0]

    @property
    def num_frames(self) -> int:
        """Video frames per window."""
        return self.network.config.num_frames

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of its weights."""
        return next(self.network.parameters()).dtype

    def loss(
        self,
        frames: Tensor,
        audio: Tensor,
        *,
        reduction: Reduction = "mean",
        region: Region = "face",
        layout: Layout = "btchw",
    ) -> Tensor:
        """How far the windows are from being in sync: -log of the cosine, the loss of Wav2Lip and LatentSync.

        The cosine is kept within [1e-6, 1 - 1e-6]; beyond, a pair has no gradient.

        Returns:
            () float32, or (B,) with reduction "none".

        Raises:
            DataError: `bad_frames`, `bad_mel`, `not_finite`, `other_device`.
            ConfigError: no such reduction.
        """
        check_choice("reduction", reduction, Reduction)
        cosines = self.similarity(frames, audio, region=region, layout=layout)
        with _without_autocast(self.device):
            losses = bce_of_pairs(cosines, torch.ones_like(cosines))
        return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses

    def similarity(self, frames: Tensor, audio: Tensor, *, region: Region = "face", layout: Layout = "btchw") -> Tensor:
        """(B,) float32 cosines, with gradients.

        Raises:
            DataError: as `loss`.
        """
        if len(frames) != len(audio):
            message = f"there are {len(frames)} windows of frames, but {len(audio)} of audio"
            raise DataError(message, reason="bad_mel", hint="give the mel window of each window of frames")
        vision, speech = self.embed_frames(frames, region=region, layout=layout), self.embed_audio(audio)
        with _without_autocast(self.device):
            return (vision * speech).sum(dim=1)

    def embed_frames(self, frames: Tensor, *, region: Region = "face", layout: Layout = "btchw") -> Tensor:
        """(B, E) float32 unit vectors.

        Raises:
            DataError: `bad_frames`, `not_finite`, `other_device`.
        """
        if frames.device != self.device:
            message = f"the frames are on {frames.device}, but the expert is on {self.device}"
            raise DataError(message, reason="other_device", hint="move it once: expert.to(frames.device)")
        check_choice("region", region, Region)
        check_choice("layout", layout, Layout)
        inputs = network_frames(frames, self.network, pixel_range=self.pixel_range, region=region, layout=layout)
        if self.network.config.latent_space:
            self._looks.at_latents(frames)
        elif frames.is_floating_point():
            self._looks.at_pixels(frames, self.pixel_range)
        return self._embed(self.network.embed_frames, inputs)

    def embed_audio(self, audio: Tensor) -> Tensor:
        """(B, E) float32 unit vectors of mel windows, which are moved to the expert's device.

        Raises:
            DataError: `bad_mel`, `not_finite`.
        """
        mel = network_mel(audio, self.network.config)
        self._looks.at_mel(mel)
        return self._embed(self.network.embed_audio, mel.to(self.device))

    def audio_windows(self, wave: Tensor, starts: Sequence[int] | Tensor, *, av_offset_s: float = 0.0) -> Tensor:
        """The mel windows (B, 1, 80, L) that training would cut for windows of frames, bit for bit.

        They depend on the sound around a window too, so `wave` must be the whole sound of the clip. Made on the CPU, as
        preparation does it, and moved to the expert's device; gradients flow back to `wave`.

        Args:
            wave: (samples,) float in [-1, 1] at 16 kHz, sample 0 at the time of frame 0; or (B, samples).
            starts: B first frames of windows, counted in the clip at 25 frames per second.
            av_offset_s: how much later the sound comes than the picture, as in a corpus.

        Raises:
            DataError: `bad_wave`, `bad_window`.
        """
        return mel_windows(wave, starts, self.num_frames, av_offset_s).to(self.device)

    def loss_of_clip(
        self,
        frames: Tensor,
        wave: Tensor,
        *,
        first_frame: int = 0,
        step: int | None = None,
        region: Region = "face",
    ) -> Tensor:
        """The mean loss of windows that cover a longer stretch of generated frames.

        Args:
            frames: (T, C, H, W), at least as many as a window has. All windows go through the network at once.
            wave: the whole sound of the clip, (samples,) as for `audio_windows`.
            first_frame: which frame of the clip the first of `frames` is.
            step: frames from one window to the next; left out, as many as a window has. The last window ends with the
                last frame in any case.
            region: what a frame shows.

        Raises:
            DataError: as `loss` and `audio_windows`.
        """
        starts = covering(frames, self.num_frames, self.num_frames if step is None else step)
        windows = torch.stack([frames[start : start + self.num_frames] for start in starts])
        audio = self.audio_windows(wave, [first_frame + start for start in starts])
        return self.loss(windows, audio, region=region)

    forward = loss

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: what holds an expert is trained, the expert is not."""
        return super().train(False)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.network.config.name}, num_frames={self.num_frames}, dtype={self.dtype}, device={self.device}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `.to(...)` and the like of this module, and of any that holds it, go through."""
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _embed(self, tower: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        around: AbstractContextManager[Any] = nullcontext()
        with _without_autocast(self.device) if self._own_precision else around:
            embeds = tower(inputs.to(self.dtype)).flatten(1)
        with _without_autocast(self.device):
            return F.normalize(embeds.to(torch.promote_types(embeds.dtype, torch.float32)), dim=1)


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, enabled=False)
