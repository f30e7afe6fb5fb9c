"""Weights as a file holds them to weights as a state holds them: dense, on the CPU, of known types, finite.

Contract: values are bit-identical to the file's unless they are cast, and a cast is always a decision in the report.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from orchestrator.checkpoint.formats.base import SourceFile, readable_size, refuse
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.checkpoint.tensors import DTYPE_NAMES, non_finite
from orchestrator.errors import RefusalReason

_SMALL = 64 << 20
_MOST_GROWTH = 8


def require_plain(weights: Mapping[str, Tensor], source: SourceFile) -> None:
    """Refuse sparse and quantized tensors, unknown types, and small files that claim huge tensors.

    Raises:
        CheckpointError: `unsupported` or `corrupt`.
    """
    for name, tensor in weights.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in DTYPE_NAMES or tensor.is_meta:
            kind = f"{tensor.dtype}".removeprefix("torch.")
            what = f"holds `{name}` in a form that is not read ({kind}, {tensor.layout})"
            raise refuse(source, RefusalReason.UNSUPPORTED, what, "save it as plain dense tensors")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    if claimed > max(_SMALL, _MOST_GROWTH * source.size):
        what = f"is damaged: {readable_size(source.size)} claim to hold {readable_size(claimed)} of weights"
        raise refuse(source, RefusalReason.CORRUPT, what, "download or copy it again")


def cast(weights: Mapping[str, Tensor], dtype: str) -> tuple[dict[str, Tensor], list[Decision]]:
    """Floating-point weights in float32, or, with `keep`, as they are. Integers stay integers."""
    plain = {name: tensor.detach() for name, tensor in weights.items()}
    others = sorted(
        {str(t.dtype).removeprefix("torch.") for t in plain.values() if t.is_floating_point()} - {"float32"}
    )
    if not others:
        return plain, []
    stored = ", ".join(others)
    if dtype == "keep":
        why = f"the file stores {stored}, and `dtype` is `keep`"
        return plain, [Decision("weights.dtype", DecisionSource.OPTION, stored, why)]
    why = f"the file stores {stored}; training wants float32" + (", which rounds them" if "float64" in others else "")
    widened = {name: t.to(torch.float32) if t.is_floating_point() else t for name, t in plain.items()}
    return widened, [Decision("weights.dtype", DecisionSource.DEFAULT, f"{stored} -> float32", why)]


def require_finite(weights: Mapping[str, Tensor], source: SourceFile, allow: bool) -> list[Decision]:
    """Refuse NaN and infinity, or report them when they are allowed.

    Raises:
        CheckpointError: `corrupt`, with the names.
    """
    bad = non_finite(weights)
    if not bad:
        return []
    listed = ", ".join(f"`{name}`" for name in bad[:4]) + (" ..." if len(bad) > 4 else "")
    if allow:
        why = f"{len(bad)} tensors hold NaN or infinity ({listed}), and `allow_non_finite` is set"
        return [Decision("weights.finite", DecisionSource.OPTION, False, why)]
    what = f"holds NaN or infinity in {len(bad)} of {len(weights)} tensors: {listed}"
    hint = "take an earlier checkpoint; to take this one anyway, normalize it with `allow_non_finite`"
    raise refuse(source, RefusalReason.CORRUPT, what, hint)
