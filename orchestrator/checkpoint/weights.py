"""Weights as a file holds them: dense, of known types, finite.

Contract: values are bit-identical to the file's unless they are cast, and a cast is always a decision in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.formats.base import readable_size, refuse
from orchestrator.checkpoint.formats.pickles import OddTensor
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.checkpoint.tensors import DTYPE_NAMES
from orchestrator.errors import RefusalReason

_SMALL = 64 << 20
_MOST_GROWTH = 20


def require_plain(weights: Mapping[str, Any], path: Path, size: int) -> None:
    """Refuse sparse and quantized tensors, unknown types, and small files that claim huge tensors.

    Args:
        weights: tensors by name.
        path: for messages.
        size: bytes of the file.

    Raises:
        CheckpointError: `unsupported` or `corrupt`.
    """
    for name, tensor in weights.items():
        kind = _odd_kind(tensor)
        if kind:
            what = f"holds `{name}` in a form that is not read ({kind})"
            raise refuse(path, RefusalReason.UNSUPPORTED, what, "save it as plain dense tensors")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    if claimed > max(_SMALL, _MOST_GROWTH * size):
        what = f"is damaged: {readable_size(size)} claim to hold {readable_size(claimed)} of weights"
        raise refuse(path, RefusalReason.CORRUPT, what, "download or copy it again")


def cast_decisions(weights: Mapping[str, Tensor], dtype: str) -> list[Decision]:
    """What becomes of floating-point types other than float32."""
    found = {str(t.dtype).removeprefix("torch.") for t in weights.values() if t.is_floating_point()}
    others = sorted(found - {"float32"})
    if not others:
        return []
    stored = ", ".join(others)
    if dtype == "keep":
        why = f"the file stores {stored}, and `dtype` is `keep`"
        return [Decision("weights.dtype", DecisionSource.OPTION, stored, why)]
    why = f"the file stores {stored}; training wants float32" + (", which rounds them" if "float64" in others else "")
    return [Decision("weights.dtype", DecisionSource.DEFAULT, f"{stored} -> float32", why)]


def finite_decisions(bad: Sequence[str], count: int, path: Path, allow: bool) -> list[Decision]:
    """Refuse NaN and infinity, or report them when they are allowed.

    Args:
        bad: names of the tensors that hold them.
        count: how many tensors there are.
        path: for messages.
        allow: whether they are taken.

    Raises:
        CheckpointError: `corrupt`, with the names.
    """
    if not bad:
        return []
    listed = ", ".join(f"`{name}`" for name in sorted(bad)[:4]) + (" ..." if len(bad) > 4 else "")
    if allow:
        why = f"{len(bad)} tensors hold NaN or infinity ({listed}), and `allow_non_finite` is set"
        return [Decision("weights.finite", DecisionSource.OPTION, False, why)]
    what = f"holds NaN or infinity in {len(bad)} of {count} tensors: {listed}"
    hint = "take an earlier checkpoint; to take this one anyway, normalize it with `--allow-non-finite`"
    raise refuse(path, RefusalReason.CORRUPT, what, hint)


def _odd_kind(tensor: Any) -> str:
    """Why a tensor cannot be weights; empty when it can."""
    if isinstance(tensor, OddTensor):
        return tensor.kind
    if tensor.is_meta:
        return "without values"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return str(tensor.layout)
    return "" if tensor.dtype in DTYPE_NAMES else str(tensor.dtype).removeprefix("torch.")
