"""Clips whose sound says what their picture shows, and a network that truly sees and hears it, without any training.

Brightness of the picture and loudness of the sound follow one invented signal per clip. The network's embedding is the
course of it over the window, with a little of its level and a constant, so that a picture that stands still, or no
sound, is something to it, too.
"""

# B windows, T frames, C channels, H W pixels, L mel columns

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from orchestrator.config import load_model_config
from orchestrator.config.media import N_MELS
from orchestrator.data.corpus import Corpus
from orchestrator.data.manifest import write_manifest
from orchestrator.evaluation.towers import Towers
from orchestrator.models import SyncNet
from orchestrator.storage import open_folder
from tests.conftest import TINY_MODEL
from tests.data.conftest import ClipArrays, manifest_row, write_shard

FRAMES = 8
"""Of a window."""


class HandMade(SyncNet):
    """Sees brightness and hears loudness.

    Args:
        noise: of its embeddings; 0 is a perfect network.
        blind: sees nothing but noise.
    """

    def __init__(self, noise: float = 0.3, *, blind: bool = False, num_frames: int = FRAMES) -> None:
        encoder = TINY_MODEL["visual_encoder"] | {"in_channels": 3 * num_frames}
        super().__init__(load_model_config(TINY_MODEL | {"num_frames": num_frames, "visual_encoder": encoder}))
        self._noise, self._blind = noise, blind

    def pixels_to_input(self, pixels: Tensor) -> Tensor:
        return pixels.float() / 127.5 - 1

    def embed_frames(self, frames: Tensor) -> Tensor:
        course_BT = frames.unflatten(1, (self.config.num_frames, 3)).mean((2, 3, 4))
        return self._embed(course_BT * (not self._blind), 1)

    def embed_audio(self, audio: Tensor) -> Tensor:
        course_BT = F.adaptive_avg_pool1d(audio.mean(2), self.config.num_frames)[:, 0] / 4
        return self._embed(course_BT, 2)

    def _embed(self, course_BT: Tensor, tower: int) -> Tensor:
        level = course_BT.mean(1, keepdim=True)
        parts = torch.cat([course_BT - level, 0.3 * level, torch.full_like(level, 0.2)], dim=1)
        # noise that is a function of what is seen, as a network's errors are
        turned = torch.sin(1e3 * parts @ torch.linspace(0.1, 1.7, parts.shape[1] ** 2).reshape(parts.shape[1], -1))
        return (parts + self._noise * turned * (1 if tower == 1 else -1))[:, :, None, None]


def make_corpus(folder: Path, speakers: int = 5, clips: int = 4, seconds: float = 4.0, *, train: int = 0) -> Corpus:
    """Clips of several speakers, of different lengths; all of them validate but those of the first `train` speakers."""
    rng, arrays = np.random.default_rng(3), []
    for number in range(speakers * clips):
        frames = round(25 * seconds) + 7 * number % 30
        arrays.append(_clip(rng, f"spk{number // clips}/clip{number % clips}", frames))
    write_shard(folder / "shards" / "s.arrow", arrays)
    rows = [
        manifest_row(clip, row, split="train" if row < train * clips else "val", speaker=clip.clip_id.partition("/")[0])
        for row, clip in enumerate(arrays)
    ]
    write_manifest(open_folder(folder), rows)
    return Corpus.open(folder)


def towers(noise: float = 0.3, *, blind: bool = False, num_frames: int = FRAMES) -> Towers:
    """The network, ready to judge."""
    return Towers(HandMade(noise, blind=blind, num_frames=num_frames).eval())


def _clip(rng: np.random.Generator, name: str, frames: int) -> ClipArrays:
    columns = frames * 16 // 5 + 1
    # a mouth moves smoothly: neighbouring frames look alike
    signal = np.tanh(1.5 * np.convolve(rng.normal(size=frames + 4), np.array([1, 2, 3, 2, 1]) / 4.4, mode="valid"))
    bright = np.clip(127.5 * (1 + 0.9 * signal), 0, 255).astype(np.uint8)
    loud = 3.6 * np.interp(np.arange(columns) / 3.2, np.arange(frames) + 0.5, signal)
    mel = np.broadcast_to(loud, (N_MELS, columns)) + rng.normal(0, 0.1, (N_MELS, columns))
    pictures = np.broadcast_to(bright[:, None, None, None], (frames, 3, 4, 8)).copy()
    return ClipArrays(name, pictures, mel.astype(np.float32))
