"""Videos whose picture and sound move together, and a network that truly sees it: no training is needed to tell sync.

The picture is as bright as the sound is loud; the network compares the courses of both within a window.
"""

# B windows, T frames

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from orchestrator.config.media import FPS, SAMPLE_RATE
from orchestrator.models import SyncNet
from orchestrator.models.base import fit_pixels

_BLOCK = 1024


class LoudnessNet(SyncNet):
    """Brightness of the lower half against loudness, frame by frame."""

    def embed_frames(self, frames: Tensor) -> Tensor:
        course_BT = frames.flatten(2).mean(2).unflatten(1, (-1, 3)).mean(2)
        return _course(course_BT)

    def embed_audio(self, audio: Tensor) -> Tensor:
        course_BL = audio[:, 0].mean(1)
        return _course(F.interpolate(course_BL[:, None], self.config.num_frames, mode="linear")[:, 0])

    def pixels_to_input(self, pixels: Tensor) -> Tensor:
        height, width = self.input_shape.frames[-2:]
        return fit_pixels(pixels, height, width) / 255


def write_talk(
    path: Path,
    *,
    frames: int = 120,
    late: float | Sequence[float] = 0.0,
    size: tuple[int, int] = (48, 48),
    seed: int = 0,
    other: bool = False,
    level: float = 0.5,
    sound: bool = True,
) -> Path:
    """Write a video whose sound comes `late` frames after its picture, or in each of several equal parts so late.

    Args:
        path: where to.
        frames: its length.
        late: frames of 1/25 s.
        size: width and height of the picture.
        seed: decides what is said.
        other: whether somebody else is heard.
        level: how loud the loudest is.
        sound: whether there is a soundtrack.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    said = _said(frames, seed)
    heard = _said(frames, seed + 1000) if other else said
    lates = [late] if isinstance(late, int | float) else list(late)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "8", "preset": "ultrafast"})
        (video.width, video.height), video.pix_fmt = size, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if sound else None
        for value in said:
            picture = np.full((size[1], size[0], 3), round(40 + 160 * value), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        if audio is not None:
            wave = _wave(heard, lates, seed) * level
            for first in range(0, len(wave), _BLOCK):
                block = av.AudioFrame.from_ndarray(wave[None, first : first + _BLOCK].copy(), "fltp", "mono")
                block.sample_rate, block.time_base, block.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), first
                container.mux(audio.encode(block))
            container.mux(audio.encode())
    return path


def _course(values_BT: Tensor) -> Tensor:
    """(B, T, 1, 1): what is left without the mean; a silent window points nowhere in particular."""
    return (values_BT - values_BT.mean(1, keepdim=True) + 1e-6)[..., None, None]


def _said(frames: int, seed: int) -> NDArray[np.float64]:
    """(T,) in [0, 1]: syllables of irregular length."""
    noise = np.random.default_rng(seed).normal(size=frames + 4)
    smooth = np.convolve(noise, [0.25, 0.5, 0.25], "valid")[:frames]
    return np.asarray(1 / (1 + np.exp(-2.5 * smooth)))


def _wave(said: NDArray[np.float64], lates: Sequence[float], seed: int) -> NDArray[np.float32]:
    """Noise that is as loud (in decibel) as is said, so much later in each part."""
    samples = np.arange(len(said) * SAMPLE_RATE // FPS)
    late = np.repeat(lates, -(-len(samples) // len(lates)))[: len(samples)]
    at = samples / (SAMPLE_RATE / FPS) - 0.5 - late
    decibel = 40 * (np.interp(at, np.arange(len(said)), said) - 1)
    noise = np.random.default_rng(seed).uniform(-1, 1, len(samples))
    return np.asarray(noise * 10 ** (decibel / 20), np.float32)


def loudness_net(config: object) -> LoudnessNet:
    """The network, for windows of this configuration."""
    return LoudnessNet(config).eval()  # type: ignore[arg-type]


def bright(frames_TCHW: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(T,) mean brightness."""
    return np.asarray(torch.from_numpy(np.array(frames_TCHW)).double().flatten(1).mean(1).numpy())
