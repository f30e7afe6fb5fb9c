"""A second reading of the upstream networks, layer by layer and with plain functions, to compare embeddings with.

It shares no code and no table with `orchestrator.models`: a tower is a text with one layer per word, e.g. `5s12p1L` is
a kernel of 5, stride (1, 2), padding 1 and leaky ReLU; `+L` is a residual 3x3 layer; R is ReLU, P a PReLU.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]

WAV2LIP_AUDIO = "3s11p1{0} +{0} +{0} 3s31p1{0} +{0} +{0} 3s33p1{0} +{0} +{0} 3s32p1{0} +{0} +{0} 3s11p0{0} 1s11p0{0}"
DEEP_AUDIO = "3s11p1L +L +L 3s31p1L +L +L 3s33p1L +L +L 3s32p1L +L +L 3s11p1L +L +L 3s11p0R 1s11p0R"
FACES = {
    "wav2lip": "7s11p3R 5s12p1R +R +R 3s22p1R +R +R +R 3s22p1R +R +R 3s22p1R +R +R 3s22p1R 3s11p0R 1s11p0R",
    "288_prelu": "7s11p3P 5s11p1P 3s11p1P 5s12p1P +P +P 3s22p1P +P +P +P 3s22p1P +P +P 3s22p1P +P +P "
    "3s22p1P 3s22p0P 3s11p0P 2s11p0P 1s11p0P",
    "288_v2": "7s11p3L 5s12p1L +L +L 3s22p1L +L +L +L 3s22p1L +L +L 3s22p1L +L +L 3s22p1L +L +L "
    "3s22p1R 3s11p0R 1s11p0R",
    "384": "7s11p3L 5s12p1L +L +L 3s22p1L +L +L 3s22p1L +L +L 3s22p1L +L +L 3s22p1L +L +L 3s22p1L +L +L "
    "3s22p1L 3s11p0L 1s11p0R",
    "ablation": "7s11p3L 5s12p1L +L +L 3s22p1L +L +L +L 3s33p1L +L +L 3s22p1L +L +L 3s22p1L +L +L "
    "3s22p1R 3s11p0R 1s11p0R",
}


def tower(state: State, prefix: str, layers: str, x: Tensor) -> Tensor:
    """Wav2Lip's kind of encoder, to unit vectors."""
    for place, layer in enumerate(layers.split()):
        before, name = x, f"{prefix}.{place}."
        geometry = re.fullmatch(r"(\d)s(\d)(\d)p(\d)[LRP]", layer)
        kernel, down, across, padding = map(int, geometry.groups()) if geometry else (3, 1, 1, 1)
        weight = state[name + "conv_block.0.weight"]
        assert weight.shape[-1] == kernel
        x = F.conv2d(x, weight, state[name + "conv_block.0.bias"], (down, across), padding)
        x = norm(state, name + "conv_block.1.", x)
        x = x + before if layer.startswith("+") else x
        slope = {"R": 0.0, "L": 0.2}.get(layer[-1])
        x = F.leaky_relu(x, slope) if slope is not None else F.prelu(x, state[name + "act.weight"])
    assert x.shape[2:] == (1, 1)
    return F.normalize(x.flatten(1))


def norm(state: State, name: str, x: Tensor) -> Tensor:
    """Batch norm of a net that is not being trained."""
    mean, var, weight, bias = (state[name + part] for part in ("running_mean", "running_var", "weight", "bias"))
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return (x - mean.view(shape)) / torch.sqrt(var.view(shape) + 1e-5) * weight.view(shape) + bias.view(shape)


def joonson_lip(state: State, x: Tensor, prefix: str = "", stride: int = 1) -> Tensor:
    """(B, 3, T, 224, 224) -> (B, 512, T')."""
    for at, steps, padding, pool in (
        (0, (stride, 2, 2), (0, 0, 0), (0, 0)),
        (4, (1, 2, 2), (0, 1, 1), (0, 1)),
        (8, (1, 1, 1), (0, 1, 1), None),
        (11, (1, 1, 1), (0, 1, 1), None),
        (14, (1, 1, 1), (0, 1, 1), (0, 0)),
        (18, (1, 1, 1), (0, 0, 0), None),
    ):
        x = _joonson_layer(state, f"{prefix}netcnnlip.{at}.", f"{prefix}netcnnlip.{at + 1}.", x, steps, padding)
        if pool is not None:
            x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, pool[1], pool[1]))
    return x.squeeze(4).squeeze(3)


def joonson_mfcc(state: State, x: Tensor, prefix: str = "", stride: int = 1) -> Tensor:
    """(B, 1, 13, L) -> (B, 512, T')."""
    rows = ((0, (1, 1), 1, None), (4, (1, 1), 1, (3, (1, 2))), (8, (1, 1), 1, None), (11, (1, 1), 1, None))
    return _joonson_audio(state, x, prefix, (*rows, (14, (1, 1), 1, (3, (2, 2))), (18, (1, stride), 0, None)))


def joonson_fbank(state: State, x: Tensor, prefix: str = "", stride: int = 1) -> Tensor:
    """(B, 1, 40, L) -> (B, 512, T')."""
    rows = ((0, (1, 1), 2, ((1, 3), (1, 2))), (4, (2, 1), 1, (3, (2, 1))), (8, (1, 1), 1, None), (11, (1, 1), 1, None))
    return _joonson_audio(state, x, prefix, (*rows, (14, (1, 1), 1, (3, (2, 2))), (18, (1, stride), 0, None)))


def joonson_head(state: State, name: str, x: Tensor) -> Tensor:
    """The last layers, at each time: (B, 512) or (B, 512, T') -> (B, E) or (B, E, T')."""
    first, last = (state[f"{name}.{at}.weight"].flatten(1) for at in (0, 3))
    x = torch.einsum("oi,bi...->bo...", first, x) + _column(state[f"{name}.0.bias"], x)
    x = norm(state, f"{name}.1.", x).clamp(min=0)
    return torch.einsum("oi,bi...->bo...", last, x) + _column(state[f"{name}.3.bias"], x)


def mfcc(waveform: Tensor) -> Tensor:
    """(S,) -> (13, L), by the textbook, in float64: 25 ms every 10 ms, 26 triangles, DCT-II, lifter, log energy."""
    signal = waveform.double().tolist()
    signal = signal[:1] + [b - 0.97 * a for a, b in pairwise(signal)]
    count = 1 if len(signal) <= 400 else 1 + math.ceil((len(signal) - 400) / 160)
    padded = torch.tensor(signal + [0.0] * (count * 160 + 400), dtype=torch.float64)
    frames = torch.stack([padded[160 * i : 160 * i + 400] for i in range(count)])
    power = torch.fft.rfft(frames, n=512).abs() ** 2 / 512
    mels = [2595 * math.log10(1 + 8000 / 700) * i / 27 for i in range(28)]
    corners = [math.floor(513 * 700 * (10 ** (m / 2595) - 1) / 16000) for m in mels]
    filters = torch.zeros(26, 257, dtype=torch.float64)
    for j, (a, b, c) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        for i in range(a, b):
            filters[j, i] = (i - a) / (b - a)
        for i in range(b, c):
            filters[j, i] = (c - i) / (c - b)
    logs = torch.log(power @ filters.T + torch.finfo(torch.float32).eps)
    rows = [torch.log(power.sum(1) + torch.finfo(torch.float32).eps)]
    for k in range(1, 13):
        cosines = torch.tensor([math.cos(math.pi * k * (n + 0.5) / 26) for n in range(26)], dtype=torch.float64)
        rows.append((logs @ cosines) * math.sqrt(2 / 26) * (1 + 11 * math.sin(math.pi * k / 22)))
    return torch.stack(rows).float()


def dinet_face(state: State, x: Tensor) -> Tensor:
    """(B, 15, H, W) -> (B, E, H/32, W/32); batch norm wherever the state has it."""
    for place, kind in enumerate("s rds rds rds rds rds".replace(" ", "")):
        x = _dinet_layer(state, f"face_encoder.face_conv.{place}.", kind, x)
    return x


def dinet_audio(state: State, x: Tensor) -> Tensor:
    """(B, F, L) -> (B, E)."""
    for place, kind in enumerate("s rh rh rh s".replace(" ", "")):
        x = _dinet_layer(state, f"audio_encoder.audio_conv.{place}.", kind, x)
    return x.sum(2) / x.shape[2]


def dinet_score(state: State, face: Tensor, audio: Tensor) -> Tensor:
    """Their score map."""
    both = torch.cat([face, audio[:, :, None, None].repeat(1, 1, *face.shape[2:])], 1)
    hidden = F.leaky_relu(_conv(state, "merge_encoder.0.", both, 1), 0.2)
    return _conv(state, "merge_encoder.2.", hidden, 1)


def _dinet_layer(state: State, name: str, kind: str, x: Tensor) -> Tensor:
    """r: residual; s: same size; d: half by the mean of 2x2; h: half by stride."""

    def normed(which: str, value: Tensor) -> Tensor:
        return norm(state, f"{name}{which}.", value) if f"{name}{which}.weight" in state else value

    if kind == "r":
        hidden = _conv(state, f"{name}conv1.", normed("norm1", x).relu(), 1)
        return x + _conv(state, f"{name}conv2.", normed("norm2", hidden).relu(), 1)
    padding = state[f"{name}conv.weight"].shape[-1] // 2
    x = normed("norm", _conv(state, f"{name}conv.", x, padding, stride=2 if kind == "h" else 1)).relu()
    return F.avg_pool2d(x, 2) if kind == "d" else x


def _joonson_audio(state: State, x: Tensor, prefix: str, rows: tuple) -> Tensor:
    for at, stride, padding, pool in rows:
        x = _joonson_layer(state, f"{prefix}netcnnaud.{at}.", f"{prefix}netcnnaud.{at + 1}.", x, stride, padding)
        x = x if pool is None else F.max_pool2d(x, *pool)
    return x.squeeze(2)


def _joonson_layer(state: State, conv: str, batch: str, x: Tensor, stride: tuple, padding: int | tuple) -> Tensor:
    return norm(state, batch, _conv(state, conv, x, padding, stride)).clamp(min=0)


def _conv(state: State, name: str, x: Tensor, padding: int | tuple, stride: int | tuple = 1) -> Tensor:
    convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.ndim]
    return convolve(x, state[f"{name}weight"], state[f"{name}bias"], stride, padding)


def _column(bias: Tensor, x: Tensor) -> Tensor:
    return bias.view(1, -1, *(1,) * (x.ndim - 2))
