"""Names around the weights: the entry that holds them, prefixes that wrappers add, a SyncNet inside a bigger model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.zoo.case import Good
from tests.zoo.files import torch_file
from tests.zoo.nets import stable_weights, wav2lip_weights

ENTRIES = (
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "weights",
    "params",
    "model_state",
    "syncnet",
    "generator",
)
PREFIXES = (
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "module.module.",
    "syncnet.",
    "__S__.",
    "model.",
    "model.module.",
    "model._orig_mod.",
    "net.",
    "module.syncnet.",
)


def prefixed(prefix: str) -> dict[str, Tensor]:
    """The net's tensors by longer names."""
    return {prefix + name: tensor for name, tensor in stable_weights().items()}


def _inner(part: str) -> dict[str, Tensor]:
    """As when the encoders were compiled or wrapped one by one."""
    return {name.replace("_encoder.", f"_encoder.{part}", 1): tensor for name, tensor in stable_weights().items()}


def _one_inner() -> dict[str, Tensor]:
    """As when only one encoder was compiled."""
    return {
        name.replace("audio_encoder.", "audio_encoder._orig_mod."): tensor for name, tensor in stable_weights().items()
    }


def _deep_inner() -> dict[str, Tensor]:
    """As when single blocks were compiled."""
    return {
        name.replace("down_blocks.3.", "down_blocks.3._orig_mod."): tensor for name, tensor in stable_weights().items()
    }


def _others(*names: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(4, 3, generator=generator) for name in names}


def _beside(prefix: str) -> dict[str, Tensor]:
    """A lip-sync model that keeps its SyncNet among its own parts."""
    return {
        **_others("unet.conv_in.weight", "unet.mid.0.weight", "vae.decoder.conv_out.weight"),
        **prefixed(prefix),
        **_others("unet.conv_out.weight", "loss.scale"),
    }


_BIGGER: dict[str, tuple[str, Callable[[], Any]]] = {
    "inside a bigger model's dict": ("syncnet", lambda: _beside("syncnet.")),
    "inside a bigger model's state_dict": ("syncnet", lambda: {"state_dict": _beside("sync_net.")}),
    "inside a bigger wrapped model": ("module.", lambda: {"model": _beside_wrapped()}),
    "as one of two entries": (
        "",
        lambda: {"unet": _others("conv_in.weight", "conv_out.weight"), "syncnet": stable_weights()},
    ),
}


def _beside_wrapped() -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in _beside("syncnet.").items()}


CASES: tuple[Good, ...] = (
    *(Good(f"entry {entry}", "entry", torch_file(lambda entry=entry: {entry: stable_weights()})) for entry in ENTRIES),
    Good(
        "entry state_dict.net",
        "entry",
        torch_file(lambda: {"state_dict": {"net": stable_weights()}}),
    ),
    Good(
        "entry model with an epoch",
        "entry",
        torch_file(lambda: {"model": stable_weights(), "epoch": 3}),
        epoch=3,
    ),
    *(
        Good(
            f"prefix {prefix}",
            "prefix",
            torch_file(lambda prefix=prefix: {"state_dict": prefixed(prefix)}),
            decides=(prefix,),
        )
        for prefix in PREFIXES
    ),
    *(
        Good(
            f"bare dict, prefix {prefix}",
            "prefix",
            torch_file(lambda prefix=prefix: prefixed(prefix)),
            decides=(prefix,),
        )
        for prefix in ("module.", "_orig_mod.", "syncnet.", "model.")
    ),
    Good(
        "inner _orig_mod., both encoders", "prefix", torch_file(lambda: _inner("_orig_mod.")), decides=("_orig_mod.",)
    ),
    Good("inner module.", "prefix", torch_file(lambda: _inner("module.")), decides=("module.",)),
    Good("inner _orig_mod., one encoder", "prefix", torch_file(_one_inner), decides=("_orig_mod.",)),
    Good("inner _orig_mod., one block", "prefix", torch_file(_deep_inner), decides=("_orig_mod.",)),
    *(
        Good(name, "bigger file", torch_file(make), decides=(word,) if word else ())
        for name, (word, make) in _BIGGER.items()
    ),
    Good(
        "Wav2Lip's net inside a bigger model",
        "bigger file",
        torch_file(
            lambda: {
                **{f"syncnet.{name}": tensor for name, tensor in wav2lip_weights().items()},
                **_others("generator.face_decoder_blocks.0.0.conv_block.0.weight"),
            }
        ),
        expected=wav2lip_weights,
        decides=("syncnet",),
    ),
)
