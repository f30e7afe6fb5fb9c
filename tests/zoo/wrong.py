"""Readable weights that are of another network, that do not fit, or that are kept in forms which are not read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from orchestrator.errors import RefusalReason
from tests.zoo.case import Bad, Good
from tests.zoo.files import torch_file
from tests.zoo.nets import stable_weights, wav2lip_weights

Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

# a few tensors are enough to tell each of these networks
_GENERATOR: Shapes = {
    "face_encoder_blocks.0.0.conv_block.0.weight": (16, 6, 7, 7),
    "face_encoder_blocks.0.0.conv_block.0.bias": (16,),
    "audio_encoder.0.conv_block.0.weight": (32, 1, 3, 3),
    "audio_encoder.0.conv_block.0.bias": (32,),
    "face_decoder_blocks.0.0.conv_block.0.weight": (512, 512, 1, 1),
    "face_decoder_blocks.0.0.conv_block.0.bias": (512,),
    "output_block.0.conv_block.0.weight": (32, 80, 3, 3),
    "output_block.1.weight": (3, 32, 1, 1),
    "output_block.1.bias": (3,),
}
_DISCRIMINATOR: Shapes = {
    "face_encoder_blocks.0.0.conv_block.0.weight": (32, 3, 7, 7),
    "face_encoder_blocks.0.0.conv_block.0.bias": (32,),
    "face_encoder_blocks.1.0.conv_block.0.weight": (64, 32, 5, 5),
    "face_encoder_blocks.1.0.conv_block.0.bias": (64,),
    "binary_pred.0.weight": (1, 512, 1, 1),
    "binary_pred.0.bias": (1,),
}
_FACE_DETECTOR: Shapes = {
    "conv1_1.weight": (64, 3, 3, 3),
    "conv1_1.bias": (64,),
    "conv3_3_norm.weight": (256,),
    "conv3_3_norm_mbox_conf.weight": (4, 256, 3, 3),
    "conv3_3_norm_mbox_loc.weight": (4, 256, 3, 3),
}
_VAE: Shapes = {
    "encoder.conv_in.weight": (128, 3, 3, 3),
    "encoder.down_blocks.0.resnets.0.norm1.weight": (128,),
    "decoder.conv_in.weight": (512, 4, 3, 3),
    "quant_conv.weight": (8, 8, 1, 1),
    "post_quant_conv.weight": (4, 4, 1, 1),
}
_RESNET: Shapes = {"conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (64, 64, 3, 3), "fc.weight": (1000, 512)}


def _made(shapes: Shapes) -> Weights:
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _without(*names: str) -> Weights:
    return {name: tensor for name, tensor in stable_weights().items() if name not in names}


def _only(prefix: str) -> Weights:
    return {name: tensor for name, tensor in stable_weights().items() if name.startswith(prefix)}


def _with(**more: Tensor) -> Weights:
    return {**stable_weights(), **{name.replace("__", "."): tensor for name, tensor in more.items()}}


def _twice() -> Weights:
    return {**stable_weights(), f"module.{_NORM}": torch.ones(32)}


_CONV = "audio_encoder.conv_in.weight"
_NORM = "audio_encoder.down_blocks.0.norm1.weight"


def _quantized() -> Weights:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {**stable_weights(), _CONV: torch.quantize_per_tensor(stable_weights()[_CONV], 0.1, 0, torch.qint8)}


_NETWORK = (RefusalReason.UNKNOWN_ARCHITECTURE, RefusalReason.UNSUPPORTED)
_UNFIT = (RefusalReason.MISMATCH, RefusalReason.UNKNOWN_ARCHITECTURE)
_MISMATCH, _UNSUPPORTED = RefusalReason.MISMATCH, RefusalReason.UNSUPPORTED
_NETWORKS: dict[str, tuple[Shapes, tuple[str, ...]]] = {
    "Wav2Lip's generator": (_GENERATOR, ("Wav2Lip", "generator")),
    "Wav2Lip's discriminator": (_DISCRIMINATOR, ("Wav2Lip", "discriminator")),
    "a face detector": (_FACE_DETECTOR, ()),
    "an image autoencoder": (_VAE, ()),
    "a ResNet": (_RESNET, ("conv1.weight",)),
}
_MISFITS: dict[str, tuple[Callable[[], Weights], Any, tuple[str, ...]]] = {
    "a tensor is missing": (lambda: _without(_NORM), _UNFIT, ()),
    "a tensor is there too much": (lambda: _with(audio_encoder__extra=torch.ones(3)), _UNFIT, ("audio_encoder.extra",)),
    "a tensor has another shape": (lambda: {**stable_weights(), _NORM: torch.ones(31)}, _UNFIT, ()),
    "a tensor holds integers": (lambda: {**stable_weights(), _NORM: torch.ones(32, dtype=torch.int64)}, _MISMATCH, ()),
    "only the audio encoder": (lambda: _only("audio_encoder."), _UNFIT, ("encoder",)),
    "only the visual encoder": (lambda: _only("visual_encoder."), _UNFIT, ("encoder",)),
    "Wav2Lip's net lacks a tensor": (
        lambda: {n: t for n, t in wav2lip_weights().items() if n != "audio_encoder.3.conv_block.0.bias"},
        _UNFIT,
        (),
    ),
    "names with and without module., other values": (
        lambda: {**stable_weights(), **{f"module.{n}": t + 1 for n, t in stable_weights().items()}},
        _MISMATCH,
        ("module.",),
    ),
    "one name with and without module.": (_twice, _MISMATCH, ("module.",)),
    "two nets under two prefixes": (
        lambda: {
            **{f"student.{n}": t for n, t in stable_weights().items()},
            **{f"teacher.{n}": t * 2 for n, t in stable_weights().items()},
        },
        (_MISMATCH, _UNSUPPORTED, RefusalReason.UNKNOWN_ARCHITECTURE),
        ("student", "teacher"),
    ),
}
_FORMS: dict[str, Callable[[], Weights]] = {
    "sparse": lambda: {**stable_weights(), _CONV: stable_weights()[_CONV].flatten(1).to_sparse()},
    "sparse rows": lambda: {**stable_weights(), _CONV: stable_weights()[_CONV].flatten(1).to_sparse_csr()},
    "quantized": _quantized,
    "on the meta device": lambda: {**stable_weights(), _CONV: stable_weights()[_CONV].to("meta")},
    "complex": lambda: {**stable_weights(), _CONV: stable_weights()[_CONV].to(torch.complex64)},
    "nested": lambda: {**stable_weights(), _CONV: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])},
}


def _tied() -> Weights:
    """Two names for one tensor, and a tensor that is a view of a bigger one."""
    names = [name for name, tensor in stable_weights().items() if tensor.shape == (32,)][:2]
    big = torch.cat([torch.ones(5), stable_weights()[names[0]], torch.ones(5)])
    return {**stable_weights(), names[0]: big[5:37], names[1]: big[5:37]}


def _untied() -> Weights:
    return {name: tensor.clone() for name, tensor in _tied().items()}


def _transposed() -> Weights:
    """In the memory order of channels_last, and of a transposed matrix."""
    return {
        name: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in stable_weights().items()
    }


CASES: tuple[Good | Bad, ...] = (
    *(
        Bad(name, "another network", torch_file(lambda shapes=shapes: {"state_dict": _made(shapes)}), _NETWORK, says)
        for name, (shapes, says) in _NETWORKS.items()
    ),
    *(
        Bad(name, "weights that do not fit", torch_file(make), reason, says)
        for name, (make, reason, says) in _MISFITS.items()
    ),
    *(
        Bad(f"a tensor is {name}", "forms that are not read", torch_file(make), (_UNSUPPORTED, _MISMATCH), (_CONV,))
        for name, make in _FORMS.items()
    ),
    Good("tied tensors and views", "views", torch_file(_tied), expected=_untied),
    Good("channels_last", "views", torch_file(_transposed)),
)
