"""joonson's SyncNets, with upstream's tensor names so that their files load strictly.

Both take whole BGR faces, 0..255 unscaled, channel before time, and give embeddings that are not normalised. Sources of
the facts: joonson/syncnet_python, SyncNetModel.py and SyncNetInstance.py; joonson/syncnet_trainer, SyncNetDist.py and
models/*.py.

Shapes: B windows, T frames, T' embeddings in time, E embedding, S audio samples.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from orchestrator.config.model import JoonsonSyncNetConfig, JoonsonTrainerConfig
from orchestrator.models.audio_features import LogMel, Mfcc
from orchestrator.models.base import SyncNet, rgb_to_bgr

_WIDTH = 512


class _BgrFaces(SyncNet):
    unit_embeddings: ClassVar[bool] = False

    def values_to_input(self, values: Tensor) -> Tensor:
        """BGR in 0..255, channel before time: (B, 3, T, 224, 224)."""
        return rgb_to_bgr(values).unflatten(1, (-1, 3)).transpose(1, 2)


class JoonsonSyncNet(_BgrFaces):
    """`syncnet_v2`: (B, 3, 5, 224, 224) and MFCC (B, 1, 13, 20) -> (B, E) twice, not normalised."""

    config: JoonsonSyncNetConfig

    def __init__(self, config: JoonsonSyncNetConfig) -> None:
        super().__init__(config)
        self.netcnnaud = _mfcc_tower()
        self.netfcaud = _linear_head(config.n_out)
        self.netfclip = _linear_head(config.n_out)
        self.netcnnlip = _lip_tower()

    def embed_frames(self, frames: Tensor) -> Tensor:
        return self.netfclip(self.lip_features(frames))

    def embed_audio(self, audio: Tensor) -> Tensor:
        return self.netfcaud(self.netcnnaud(audio).flatten(1))

    def lip_features(self, frames: Tensor) -> Tensor:
        """(B, 512): what upstream's `forward_lipfeat` gives, before the last layers."""
        return self.netcnnlip(frames).flatten(1)


class JoonsonTrainer(_BgrFaces):
    """(B, 3, T, 224, 224) and 16 kHz waveforms (B, S) in the range of int16 -> content embeddings (B, E, T') twice, not
    normalised; `identities` gives those of the person.

    Upstream wraps its net as `__S__` beside the four numbers of its loss, `__L__`, and saves both, so the names here
    include the two prefixes.
    """

    config: JoonsonTrainerConfig

    def __init__(self, config: JoonsonTrainerConfig) -> None:
        super().__init__(config)
        self.__S__ = _TwoHeadedNet(config)
        self.__L__ = _LossScale()

    def embed_frames(self, frames: Tensor) -> Tensor:
        return self.__S__.netfclip(self.__S__.see(frames))

    def embed_audio(self, audio: Tensor) -> Tensor:
        return self.__S__.netfcaud(self.__S__.hear(audio))

    def identities(self, frames: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of the face and of the speaker, each (B, E, T'), not normalised."""
        return self.__S__.netfcface(self.__S__.see(frames)), self.__S__.netfcspk(self.__S__.hear(audio))

    def content_score(self, vision: Tensor, audio: Tensor) -> Tensor:
        """(B, E, T') twice -> (B, T'): the scaled cosine that upstream trains on, of embeddings of the same time."""
        return torch.cosine_similarity(vision, audio, dim=1) * self.__L__.wC + self.__L__.bC


class _TwoHeadedNet(nn.Module):
    """Upstream's `SyncNetModel`: a head for content and one for identity on each tower."""

    def __init__(self, config: JoonsonTrainerConfig) -> None:
        super().__init__()
        fbank, stride = config.features == "fbank", config.temporal_stride
        self.netcnnaud = _fbank_tower(stride) if fbank else _mfcc_tower(stride)
        self.netfcaud, self.netfclip, self.netfcspk, self.netfcface = (_head(config.n_out) for _ in range(4))
        self.netcnnlip = _lip_tower(stride)
        # upstream's MFCC layer has no tensors, its mel layer has two
        self.torchfb = LogMel() if fbank else Mfcc()

    def see(self, frames: Tensor) -> Tensor:
        """(B, 3, T, 224, 224) -> (B, 512, T')."""
        return self.netcnnlip(frames).flatten(2)

    def hear(self, waveforms: Tensor) -> Tensor:
        """(B, S) -> (B, 512, T'). Upstream lets no gradient into the features either."""
        return self.netcnnaud(self.torchfb(waveforms).detach().unsqueeze(1)).flatten(2)


class _LossScale(nn.Module):
    """Scale and offset of the cosines, for identity and content."""

    def __init__(self) -> None:
        super().__init__()
        self.wI, self.bI, self.wC, self.bC = (nn.Parameter(torch.empty(())) for _ in range(4))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Upstream's start."""
        for scale, offset in ((self.wI, self.bI), (self.wC, self.bC)):
            nn.init.constant_(scale, 10.0)
            nn.init.constant_(offset, -5.0)


def _mfcc_tower(stride: int = 1) -> nn.Sequential:
    """(B, 1, 13, L) -> (B, 512, 1, T'). The pooling of one is upstream's: it keeps the numbering of what follows."""
    return nn.Sequential(
        *_conv(nn.Conv2d(1, 64, 3, padding=1)),
        nn.MaxPool2d(1),
        *_conv(nn.Conv2d(64, 192, 3, padding=1)),
        nn.MaxPool2d(3, stride=(1, 2)),
        *_audio_middle(192),
        *_conv(nn.Conv2d(256, _WIDTH, (5, 4), stride=(1, stride))),
    )


def _fbank_tower(stride: int) -> nn.Sequential:
    """(B, 1, 40, L) -> (B, 512, 1, T')."""
    return nn.Sequential(
        *_conv(nn.Conv2d(1, 96, (5, 7), padding=2)),
        nn.MaxPool2d((1, 3), stride=(1, 2)),
        *_conv(nn.Conv2d(96, 256, 5, stride=(2, 1), padding=1)),
        nn.MaxPool2d(3, stride=(2, 1)),
        *_audio_middle(256),
        *_conv(nn.Conv2d(256, _WIDTH, (4, 1), stride=(1, stride))),
    )


def _audio_middle(channels: int) -> list[nn.Module]:
    return [
        *_conv(nn.Conv2d(channels, 384, 3, padding=1)),
        *_conv(nn.Conv2d(384, 256, 3, padding=1)),
        *_conv(nn.Conv2d(256, 256, 3, padding=1)),
        nn.MaxPool2d(3, stride=2),
    ]


def _lip_tower(stride: int = 1) -> nn.Sequential:
    """(B, 3, T, 224, 224) -> (B, 512, T', 1, 1)."""
    flat, padding = (1, 3, 3), (0, 1, 1)
    return nn.Sequential(
        *_conv(nn.Conv3d(3, 96, (5, 7, 7), stride=(stride, 2, 2))),
        nn.MaxPool3d(flat, stride=(1, 2, 2)),
        *_conv(nn.Conv3d(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=padding)),
        nn.MaxPool3d(flat, stride=(1, 2, 2), padding=padding),
        *_conv(nn.Conv3d(256, 256, flat, padding=padding)),
        *_conv(nn.Conv3d(256, 256, flat, padding=padding)),
        *_conv(nn.Conv3d(256, 256, flat, padding=padding)),
        nn.MaxPool3d(flat, stride=(1, 2, 2)),
        *_conv(nn.Conv3d(256, _WIDTH, (1, 6, 6))),
    )


def _conv(convolution: nn.Conv2d | nn.Conv3d) -> list[nn.Module]:
    norm = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
    return [convolution, norm(convolution.out_channels), nn.ReLU()]


def _linear_head(n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.BatchNorm1d(_WIDTH), nn.ReLU(), nn.Linear(_WIDTH, n_out))


def _head(n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(_WIDTH, _WIDTH, 1), nn.BatchNorm1d(_WIDTH), nn.ReLU(), nn.Conv1d(_WIDTH, n_out, 1))
