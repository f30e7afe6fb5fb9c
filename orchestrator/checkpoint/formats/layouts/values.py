"""Small readings that the layouts share: counts, tensor dicts, and tables from lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from orchestrator.checkpoint.formats.pickles import Inert, NumpyArray, OddTensor
from orchestrator.checkpoint.state import Decision, DecisionSource, Json


def is_tensor(value: object) -> bool:
    """Whether `value` is a tensor or an array of numbers, of whatever kind."""
    return isinstance(value, (Tensor, OddTensor)) or (isinstance(value, NumpyArray) and value.tensor() is not None)


def is_tensor_dict(value: object) -> bool:
    """Whether `value` is a non-empty dict of tensors by name, and of nothing else."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(key, str) and is_tensor(item) for key, item in value.items())
    )


def describe(value: object) -> str:
    """What a value is, for a person."""
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


def count(value: object) -> int | None:
    """A step or epoch: a whole number that is not negative, also as a one-element tensor; none for all else."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def count_decision(field: str, key: str, raw: object, value: int | None) -> Decision:
    """How `field` follows from the entry `key` of the file."""
    if value is not None:
        return Decision(field, DecisionSource.FILE, value, f"`{key}` of the file")
    why = f"the file has no `{key}`" if raw is None else f"`{key}` of the file is no count: {str(raw)[:40]!r}"
    return Decision(field, DecisionSource.DEFAULT, 0, why)


def table(columns: Iterable[tuple[str, object, object]]) -> list[dict[str, Json]]:
    """Rows by step from (name, list of steps, list of values) columns; what is no number is left out."""
    rows: dict[int, dict[str, Json]] = {}
    for name, steps, values in columns:
        if isinstance(steps, list) and isinstance(values, list):
            for step, value in zip(steps, values, strict=False):
                at, number = count(step), _number(value)
                if at is not None and number is not None:
                    rows.setdefault(at, {"step": at})[name] = number
    return [rows[step] for step in sorted(rows)]


def others(data: Mapping[str, Any], known: Iterable[str]) -> tuple[str, ...]:
    """Names of the entries beyond the known ones."""
    return tuple(str(key) for key in data if key not in set(known))


def _number(value: object) -> float | None:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
