"""Embeddings of all windows of a clip: every window of picture and of sound goes through its tower once.

Why: pairs, offsets, timelines and controls all compare windows of one clip with one another; with the embeddings at
hand each of them is a product of two small matrices. Contract: the embedding of a window is what training sees of it,
to the rounding of another batch.
"""

# B windows, V windows of picture, A windows of sound, E embedding

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from orchestrator.errors import RunError
from orchestrator.evaluation.material import Material
from orchestrator.models import SyncNet
from orchestrator.training.precision import autocast

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClipEmbeddings:
    """A clip as a network sees and hears it."""

    video_starts: Ints
    """(V,) first frame of each window of the picture, ascending."""
    vision_VE: Floats
    """Their embeddings."""
    audio_starts: Ints
    """(A,) the frame at which each window of the sound starts, ascending; for offsets, without a gap."""
    audio_AE: Floats
    """Their embeddings."""
    unit: bool = True
    """Whether embeddings are unit vectors, so that a cosine and a distance say the same."""

    @cached_property
    def distances_VA(self) -> Floats:
        """Euclidean distance of every window of the picture to every window of the sound."""
        squared = (
            np.square(self.vision_VE, dtype=np.float64).sum(1)[:, None]
            + np.square(self.audio_AE, dtype=np.float64).sum(1)[None]
            - 2 * self.vision_VE.astype(np.float64) @ self.audio_AE.T.astype(np.float64)
        )
        return np.sqrt(np.maximum(squared, 0)).astype(np.float32)

    def cosines(self, video: Sequence[int], audio: Sequence[int]) -> Floats:
        """(B,) cosines of pairs of windows, given by their first frames, which must be among the starts."""
        vision = self.vision_VE[np.searchsorted(self.video_starts, np.asarray(video, np.int64))]
        speech = self.audio_AE[np.searchsorted(self.audio_starts, np.asarray(audio, np.int64))]
        lengths = np.linalg.norm(vision, axis=1) * np.linalg.norm(speech, axis=1)
        return np.asarray((vision * speech).sum(1) / np.maximum(lengths, 1e-12), np.float32)


class Towers:
    """A network that embeds clips.

    Args:
        model: in any mode; it judges in evaluation mode and comes back as it was.
        batch: windows that go through a tower at once.
        device: where the model is.
        precision: as `train.precision`.
        alive: called after every batch.
    """

    def __init__(
        self,
        model: SyncNet,
        batch: int = 64,
        device: torch.device | None = None,
        precision: str = "fp32",
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.num_frames = model, model.config.num_frames
        self._batch, self._device = batch, device or torch.device("cpu")
        self._precision, self._alive = precision, alive
        self._known: dict[Hashable, Floats] = {}

    def remembered(self, key: Hashable, embed: Callable[[], Floats]) -> Floats:
        """Embeddings that many clips are compared with: computed once for all units that this process works on."""
        if key not in self._known:
            self._known[key] = embed()
        return self._known[key]

    @torch.no_grad()
    def embed(self, clip: Material, video_starts: Ints, audio_starts: Ints) -> ClipEmbeddings:
        """The embeddings of these windows, which the clip must have.

        Raises:
            RunError: they are not finite numbers.
        """
        was_training = self.model.training
        self.model.eval()
        try:
            vision = self._in_batches(video_starts, lambda starts: self._see(clip, starts))
            audio = self._in_batches(audio_starts, lambda starts: self._hear(clip, starts))
        finally:
            self.model.train(was_training)
        return ClipEmbeddings(video_starts, vision, audio_starts, audio, self.model.unit_embeddings)

    def _in_batches(self, starts: Ints, embed: Callable[[Ints], Tensor]) -> Floats:
        if not len(starts):
            return np.zeros((0, 1), np.float32)
        found = []
        for first in range(0, len(starts), self._batch):
            embeds = embed(starts[first : first + self._batch]).flatten(1).float()
            found.append(F.normalize(embeds, dim=1) if self.model.unit_embeddings else embeds)
            self._alive()
        embeds = torch.cat(found).cpu()
        if not torch.isfinite(embeds).all():
            hint = "training diverged (lower `optim.lr`), or the checkpoint or the clip is damaged"
            raise RunError("the network gives embeddings that are not finite numbers", hint=hint)
        return embeds.numpy()

    def _see(self, clip: Material, starts: Ints) -> Tensor:
        windows = torch.from_numpy(np.stack([clip.window(int(start), self.num_frames) for start in starts]))
        frames = self.model.pixels_to_input(windows.to(self._device))
        with autocast(self._precision, self._device):
            return self.model.embed_frames(frames)

    def _hear(self, clip: Material, starts: Ints) -> Tensor:
        windows = np.stack([clip.mel_window(int(start), self.num_frames) for start in starts])
        with autocast(self._precision, self._device):
            return self.model.embed_audio(torch.from_numpy(windows)[:, None].to(self._device))
