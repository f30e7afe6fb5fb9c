"""Small readings that the layouts share: tensors, counts, numbers, and what a value is in words.

Contract: of tensors only single numbers are read, so that looking at a file costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from orchestrator.checkpoint.formats.pickles import Inert, NumpyArray, OddTensor
from orchestrator.checkpoint.formats.pickles.numpy_values import NumpyDtype
from orchestrator.checkpoint.state import Decision, DecisionSource

_ARRAY_STATE = 4


def is_tensor(value: object) -> bool:
    """Whether `value` is a tensor or an array of numbers, of whatever kind."""
    return isinstance(value, (Tensor, OddTensor)) or (isinstance(value, NumpyArray) and _holds_numbers(value))


def as_tensor(value: object) -> Any:
    """A tensor, with arrays made tensors; none for all else, and for arrays that do not add up."""
    if isinstance(value, NumpyArray):
        return value.tensor()
    return value if isinstance(value, (Tensor, OddTensor)) else None


def is_tensor_dict(value: object) -> bool:
    """Whether `value` is a non-empty dict of tensors by name, and of nothing else."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(key, str) and is_tensor(item) for key, item in value.items())
    )


def entries_of(value: object) -> Mapping[Any, Any] | None:
    """What a value holds by name: a dict, one of a lost class, or an object's attributes; none for all else."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, Inert) or isinstance(value, (NumpyArray, OddTensor)):
        return None
    content = value.attributes().get("_content")  # OmegaConf's
    return value.entries or (content if isinstance(content, Mapping) else value.attributes()) or None


def describe(value: object) -> str:
    """What a value is, for a person."""
    if isinstance(value, Mapping) and {"state", "param_groups"} <= value.keys():
        return "only the state of an optimizer"
    if isinstance(value, Mapping):
        keys = ", ".join(str(key)[:40] for key in list(value)[:6])
        return f"a dict with {keys}" if keys else "an empty dict"
    if isinstance(value, Tensor):
        return f"one tensor of shape {list(value.shape)}"
    if isinstance(value, NumpyArray):
        return "one array"
    if isinstance(value, Inert):
        return f"an object of {value.origin}"
    return f"a {type(value).__name__}"


def number(value: object) -> float | int | None:
    """A finite number, also as a one-element tensor or array; none for all else."""
    if isinstance(value, NumpyArray):
        value = as_tensor(value)
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 and not value.is_meta and not value.is_complex() else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    sensible = abs(value) < 1 << 64 if isinstance(value, int) else math.isfinite(value)
    return value if sensible else None


def count(value: object) -> int | None:
    """A step or epoch: a whole number that is not negative and no absurd one; none for all else."""
    found = number(value)
    whole = int(found) if isinstance(found, float) and found.is_integer() else found
    return whole if isinstance(whole, int) and 0 <= whole < 1 << 53 else None


def counted(value: object) -> tuple[int | None, DecisionSource]:
    """A count, also in a string of digits, which is not what a trainer means to write."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return count(int(value.strip()[:20])), DecisionSource.DERIVED
    return count(value), DecisionSource.FILE


def count_decision(field: str, key: str, raw: object, value: int | None, source: DecisionSource) -> Decision:
    """How `field` follows from the entry `key` of the file."""
    if value is not None and source is DecisionSource.DERIVED:
        return Decision(field, source, value, f"`{key}` of the file is the string {str(raw)[:40]!r}, read as a number")
    if value is not None:
        return Decision(field, source, value, f"`{key}` of the file")
    why = f"`{key}` of the file is no count: {said(raw)}"
    return Decision(field, DecisionSource.DEFAULT, 0, why)


def said(value: object) -> str:
    """A value for a person, without reading tensors."""
    simple = value is None or isinstance(value, (str, bool, float)) or (isinstance(value, int) and abs(value) < 1 << 64)
    return repr(str(value)[:40]) if simple else describe(value)


def _holds_numbers(array: NumpyArray) -> bool:
    """Without copying it."""
    state = array.state
    if not isinstance(state, tuple) or len(state) < _ARRAY_STATE:
        return False
    dtype = state[-3]
    return isinstance(dtype, NumpyDtype) and dtype.code is not None
