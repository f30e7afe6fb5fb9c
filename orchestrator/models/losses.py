"""Losses on pairs of unit embeddings: what each of them optimises, its source, and the reason to choose it.

Promises: a loss is the mean over the samples that it is given, a float32 scalar that is computed in float32 under any
autocast; embeddings that are no numbers give a loss that is no number, and no error; nothing looks at a value on the
host, so nothing waits for a GPU. `docs/losses.md` compares the three.
"""

# N samples, E embedding, G samples of a group, P pairs
# Label 1 means that mouth and speech belong together.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, assert_never

import torch
from torch import Tensor

from orchestrator.config.loss import LossConfig
from orchestrator.errors import RunError

CHANCE_LOSS = math.log(2)
"""Where the cosine loss stays for a net that knows nothing."""

_EDGE = 1e-6
LARGEST_LOSS = -math.log(_EDGE)
"""What the cosine loss of a pair is at most."""


class PairLoss(Protocol):
    """What the training loop asks of a loss."""

    @property
    def unit(self) -> int:
        """Samples that must stay together in one micro-batch; a batch is made of whole units."""
        ...

    def __call__(self, vision: Tensor, audio: Tensor, labels: Tensor) -> Tensor:
        """The mean loss.

        Args:
            vision: (N, E) unit vectors of the pictures, float of any width.
            audio: (N, E) unit vectors of the sounds.
            labels: (N,) 1 in sync, 0 out of sync.

        Returns:
            () float32, with a gradient.
        """
        ...

    def evidence(self, vision: Tensor, audio: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """How far positives and negatives are apart in this batch.

        Returns:
            (P,) float32 cosines and (P,) float32 labels of pairs of both kinds, without a gradient; all of the samples
            given have the same share in it.
        """
        ...


def build_loss(settings: LossConfig) -> PairLoss:
    """The loss that is configured."""
    match settings.name:
        case "cosine_bce":
            return CosineBCE()
        case "info_nce":
            return InfoNCE(settings.temperature, settings.group)
        case "margin":
            return MarginLoss(settings.margin)
        case unknown:
            assert_never(unknown)


@dataclass(frozen=True)
class CosineBCE:
    """Binary cross-entropy of the cosine against the label: -log c of a positive, -log(1 - c) of a negative.

    Source: Prajwal et al. 2020, "A Lip Sync Expert Is All You Need for Speech to Lip Generation In the Wild" (Wav2Lip);
    LatentSync trains its SyncNets with it too. Choose it for a SyncNet that is to supervise a generator: those read
    the cosine as a probability, and this is the only loss that makes it one.
    """

    unit: int = 1

    def __call__(self, vision: Tensor, audio: Tensor, labels: Tensor) -> Tensor:
        """As `PairLoss`."""
        return cosine_bce(vision, audio, labels)

    def evidence(self, vision: Tensor, audio: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of the batch themselves."""
        return _labelled(vision, audio, labels)


@dataclass(frozen=True)
class InfoNCE:
    """Cross-entropy of finding each picture's own sound among all sounds of its group, and each sound's own picture.

    A group is `group` consecutive samples, all in sync, two of each clip side by side (`SampleStream(twins=True)`). So
    every picture has one negative that only lip sync tells apart, the other sound of its clip, and `group - 2` in-batch
    negatives of other clips. Twins keep the distance of a negative, so neither is a negative that is really in sync.

    Source: van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", symmetric as in
    Radford et al. 2021 (CLIP); for lip sync Chung, Chung and Kang 2019, "Perfect Match", who match one picture with
    many sounds. Choose it where the cosine BCE stays at chance, or where only the order of candidates counts, as in
    finding an offset: a window learns from many negatives instead of one or none.
    """

    temperature: float
    group: int

    @property
    def unit(self) -> int:
        """Groups stay whole."""
        return self.group

    def __call__(self, vision: Tensor, audio: Tensor, labels: Tensor) -> Tensor:
        """As `PairLoss`; all labels must be 1 and are not looked at.

        Raises:
            RunError: the batch is not made of whole groups.
        """
        self._check(len(vision))
        groups = (-1, self.group)
        # autocast would multiply in half precision, whose steps of 0.004 the temperature makes 0.06
        with torch.autocast(device_type=vision.device.type, enabled=False):
            cosines = vision.float().unflatten(0, groups) @ audio.float().unflatten(0, groups).mT
        logits = cosines / self.temperature  # (N / G, G pictures, G sounds)
        found = logits.log_softmax(dim=2) + logits.log_softmax(dim=1)
        return -found.diagonal(dim1=1, dim2=2).mean() / 2

    @torch.no_grad()
    def evidence(self, vision: Tensor, audio: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Each picture with its own sound, and with the other sound of its clip: P = 2 N pairs."""
        self._check(len(vision))
        own = cosine_similarity(vision, audio)
        other = cosine_similarity(vision, audio.unflatten(0, (-1, 2)).flip(1).flatten(0, 1))
        return torch.cat([own, other]), torch.cat([torch.ones_like(own), torch.zeros_like(other)])

    def _check(self, samples: int) -> None:
        if samples % self.group:
            message = f"info_nce contrasts whole groups of {self.group} samples, but the batch has {samples}"
            hint = "make `train.global_batch` a multiple of `loss.group`, and `train.micro_batch` at least as large"
            raise RunError(message, hint=hint)


@dataclass(frozen=True)
class MarginLoss:
    """Half the squared distance d of a positive, half of max(0, margin - d) squared of a negative.

    Source: Hadsell, Chopra and LeCun 2006, "Dimensionality Reduction by Learning an Invariant Mapping"; the loss of the
    first SyncNet, Chung and Zisserman 2016, "Out of Time". Here d is the distance of unit vectors, within [0, 2].
    Choose it to compare with that line of work, or where negatives are of very unequal difficulty: one that is `margin`
    apart has no gradient any more, so that training goes on with those that are not.
    """

    margin: float
    unit: int = 1

    def __call__(self, vision: Tensor, audio: Tensor, labels: Tensor) -> Tensor:
        """As `PairLoss`."""
        # not from the cosine: sqrt(2 - 2 c) has no gradient at equal vectors, and no precision near them
        distances = torch.linalg.vector_norm(vision.float() - audio.float(), dim=1)
        positive = labels.float()
        short = (self.margin - distances).clamp(min=0)
        return (positive * distances.square() + (1 - positive) * short.square()).mean() / 2

    def evidence(self, vision: Tensor, audio: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of the batch themselves."""
        return _labelled(vision, audio, labels)


def cosine_similarity(vision: Tensor, audio: Tensor) -> Tensor:
    """(N, E), (N, E) unit vectors -> (N,) cosines in float32, whatever the autocast type was."""
    return (vision.float() * audio.float()).sum(dim=1)


def cosine_bce(vision: Tensor, audio: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of the cosine against the label, mean over the batch: the loss of Wav2Lip and LatentSync."""
    return bce_of_cosines(cosine_similarity(vision, audio), labels)


def bce_of_cosines(cosines: Tensor, labels: Tensor) -> Tensor:
    """The same loss from the cosines, (N,) float32, themselves."""
    return bce_of_pairs(cosines, labels).mean()


def bce_of_pairs(cosines: Tensor, labels: Tensor) -> Tensor:
    """(N,) the loss of each pair.

    The cosine is kept within [1e-6, 1 - 1e-6]: rounding carries the cosine of equal vectors past 1, on which the
    cross-entropy would be undefined. torch's own refuses a NaN, on a GPU with an assertion that ends the process;
    this one hands it on.
    """
    cosine, positive = cosines.clamp(_EDGE, 1 - _EDGE), labels.float()
    return -(positive * cosine.log() + (1 - positive) * torch.log1p(-cosine))


@torch.no_grad()
def _labelled(vision: Tensor, audio: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return cosine_similarity(vision, audio), labels.float()
