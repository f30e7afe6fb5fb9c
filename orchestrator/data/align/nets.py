"""MTCNN's three networks (Zhang et al. 2016), filled with the weights that travel inside the package facenet-pytorch.

Only its files are used, without importing it: the package has not changed since 2023 and pulls in torchvision, which
costs 150 MB per worker and fails where its build does not fit torch's. The files hold tensors and are read as such.
"""

from __future__ import annotations

from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from orchestrator.data.align.extra import missing

_PACKAGE = "facenet_pytorch"
_Part = tuple[str, nn.Module]


class Stage(nn.Module):
    """One network: shared layers, then for each crop the shifts of the box's edges, landmarks (last one only), score.

    Args:
        trunk: the shared layers, named as in the file.
        heads: the outputs, named as in the file; the one named `score` there is turned into probabilities.
        score: its name.
    """

    def __init__(self, trunk: list[_Part], heads: list[_Part], score: str) -> None:
        super().__init__()
        self.trunk = nn.Sequential(OrderedDict(trunk))
        self.heads = nn.ModuleDict(dict(heads))
        self._score = score

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """`(N, 3, H, W)` RGB in [-1, 1] -> one tensor per head, in their order."""
        features = self.trunk(images)
        outputs = ((name, head(features)) for name, head in self.heads.items())
        return tuple(output.softmax(dim=1) if name == self._score else output for name, output in outputs)


class _Transposed(nn.Module):
    """Flattens column by column, in which order the dense layers were trained."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 2, 1).flatten(1)


def proposal_net() -> Stage:
    """Scans a picture: `(N, 4, h, w)` shifts and `(N, 2, h, w)` scores of windows of 12 pixels, 2 apart."""
    trunk: list[_Part] = [
        *_conv(1, 3, 10, 3),
        ("pool1", nn.MaxPool2d(2, 2, ceil_mode=True)),
        *_conv(2, 10, 16, 3),
        *_conv(3, 16, 32, 3),
    ]
    heads: list[_Part] = [("conv4_2", nn.Conv2d(32, 4, 1)), ("conv4_1", nn.Conv2d(32, 2, 1))]
    return _filled(Stage(trunk, heads, "conv4_1"), "pnet")


def refinement_net() -> Stage:
    """Crops of 24 pixels: `(N, 4)` shifts, `(N, 2)` scores."""
    trunk: list[_Part] = [
        *_conv(1, 3, 28, 3),
        ("pool1", nn.MaxPool2d(3, 2, ceil_mode=True)),
        *_conv(2, 28, 48, 3),
        ("pool2", nn.MaxPool2d(3, 2, ceil_mode=True)),
        *_conv(3, 48, 64, 2),
        ("flat", _Transposed()),
        ("dense4", nn.Linear(576, 128)),
        ("prelu4", nn.PReLU(128)),
    ]
    heads: list[_Part] = [("dense5_2", nn.Linear(128, 4)), ("dense5_1", nn.Linear(128, 2))]
    return _filled(Stage(trunk, heads, "dense5_1"), "rnet")


def landmark_net() -> Stage:
    """Crops of 48 pixels: `(N, 4)` shifts, `(N, 10)` landmarks (five x, five y, in sides of the crop), scores."""
    trunk: list[_Part] = [
        *_conv(1, 3, 32, 3),
        ("pool1", nn.MaxPool2d(3, 2, ceil_mode=True)),
        *_conv(2, 32, 64, 3),
        ("pool2", nn.MaxPool2d(3, 2, ceil_mode=True)),
        *_conv(3, 64, 64, 3),
        ("pool3", nn.MaxPool2d(2, 2, ceil_mode=True)),
        *_conv(4, 64, 128, 2),
        ("flat", _Transposed()),
        ("dense5", nn.Linear(1152, 256)),
        ("prelu5", nn.PReLU(256)),
    ]
    heads: list[_Part] = [
        ("dense6_2", nn.Linear(256, 4)),
        ("dense6_3", nn.Linear(256, 10)),
        ("dense6_1", nn.Linear(256, 2)),
    ]
    return _filled(Stage(trunk, heads, "dense6_1"), "onet")


def _conv(number: int, inputs: int, outputs: int, side: int) -> list[_Part]:
    return [(f"conv{number}", nn.Conv2d(inputs, outputs, side)), (f"prelu{number}", nn.PReLU(outputs))]


def _filled(stage: Stage, name: str) -> Stage:
    """The network with its weights.

    Raises:
        RunError: the package is not installed, or holds other files.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise missing(_PACKAGE, "it is not installed")
    file = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.pt"
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
        own = {key: key.split(".", 1)[1] for key in stage.state_dict()}
        stage.load_state_dict({key: weights[theirs] for key, theirs in own.items()})
    except (OSError, KeyError, RuntimeError) as error:
        raise missing(_PACKAGE, f"its file {file} does not hold the weights: {error}") from error
    return stage.eval().requires_grad_(False)
