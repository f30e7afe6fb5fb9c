"""How do two checkpoints differ? Any two that can be read: canonical directories, files and folders of others.

Promises: tensors are compared a few megabytes at a time, in double precision, without a second copy of either; two
tensors are equal when their types, shapes and numbers are. Where a state came from is no difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.convert import ModelOption, Options, convert
from orchestrator.checkpoint.directory import flatten, is_canonical, read_state
from orchestrator.checkpoint.formats import scan
from orchestrator.checkpoint.state import Json, TrainState
from orchestrator.checkpoint.storage import Location, fetched, redacted
from orchestrator.checkpoint.tensors import DTYPE_NAMES

_PIECE = 1 << 19
_LINE = 200
"""Characters of a plain value that a person is shown."""


class Difference(StrEnum):
    """How a tensor differs."""

    ONLY_A = "only in a"
    """The second has none of that name."""
    ONLY_B = "only in b"
    """The first has none of that name."""
    SHAPE = "shape"
    """Other shapes."""
    DTYPE = "type"
    """Other element types; the values are compared all the same."""
    VALUES = "values"
    """Other values."""


@dataclass(frozen=True)
class TensorDiff:
    """One tensor that is not the same in both."""

    part: str
    """`weights`, `ema`, `optimizer` or `rng`."""
    name: str
    """Its name; of a moment `slot/parameter`."""
    kind: Difference
    """How it differs."""
    a: str
    """Type and shape in the first; empty when it is not there."""
    b: str
    """Type and shape in the second; empty when it is not there."""
    max_abs: float | None = None
    """Largest difference of two numbers, where both are finite."""
    mean_abs: float | None = None
    """Mean difference."""
    relative: float | None = None
    """Length of the difference over the length of the first."""
    cosine: float | None = None
    """Of the angle between both; none when one is zero."""
    changed: int | None = None
    """How many numbers differ."""

    def line(self) -> str:
        """For a person."""
        what = f"{self.part} {self.name}: {self.kind}"
        if self.max_abs is None:
            return f"{what} ({' | '.join(text for text in (self.a, self.b) if text)})"
        shapes = f"{self.a} | {self.b}" if self.a != self.b else self.a
        cosine = "none" if self.cosine is None else f"{self.cosine:.6f}"
        return (
            f"{what} ({shapes}), {self.changed:,} numbers, max {self.max_abs:.3g}, mean {self.mean_abs:.3g}, "
            f"relative {_short(self.relative)}, cosine {cosine}"
        )


@dataclass(frozen=True)
class FieldDiff:
    """One plain value that is not the same in both."""

    name: str
    """e.g. `step` or `model.resolution`."""
    a: Json
    """In the first."""
    b: Json
    """In the second."""

    def line(self) -> str:
        """For a person; long values, such as packed scores, are cut."""
        return f"{self.name}: {_cut(self.a)} | {_cut(self.b)}"


@dataclass(frozen=True)
class DiffReport:
    """How two checkpoints differ."""

    a: str
    """The first."""
    b: str
    """The second."""
    tensors: tuple[TensorDiff, ...]
    """Tensors that differ: by part, largest difference first."""
    fields: tuple[FieldDiff, ...]
    """Everything else that differs."""
    equal: dict[str, int]
    """How many tensors are equal, by part."""

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.tensors and not self.fields

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON data."""
        return {**asdict(self), "same": self.same}

    def lines(self) -> list[str]:
        """For a person, one fact per line."""
        equal = ", ".join(f"{count} of {part}" for part, count in self.equal.items() if count)
        head = [f"a: {self.a}", f"b: {self.b}", f"equal tensors: {equal or 'none'}"]
        head += [field.line() for field in self.fields] + [tensor.line() for tensor in self.tensors]
        return head + ["no difference"] * self.same


def diff(a: Location, b: Location, *, model_config: ModelOption = None, weights: str = "raw") -> DiffReport:
    """Compare two checkpoints.

    Args:
        a: a canonical directory, or any readable file or folder; also a URI.
        b: the other.
        model_config: the network, where the weights of one alone do not tell it.
        weights: `raw` or `ema`, of files that have both.

    Raises:
        CheckpointError: one of them is refused; `reason` says why.
    """
    options = Options(weights=weights)
    with ExitStack() as copies:
        first, second = (_opened(copies.enter_context(fetched(where)), model_config, options) for where in (a, b))
        return compare(
            first.state, second.state, (redacted(a), redacted(b)), lambda: (first.release(), second.release())
        )


def compare(
    a: TrainState, b: TrainState, names: tuple[str, str] = ("a", "b"), relax: Callable[[], object] = lambda: None
) -> DiffReport:
    """Compare two states.

    Args:
        a: the first.
        b: the second.
        names: what to call them.
        relax: called after every tensor, so that mapped sources can give their memory back.
    """
    found: list[TensorDiff] = []
    equal: dict[str, int] = {}
    for part in ("weights", "ema", "optimizer", "rng"):
        if getattr(a, part) is None or getattr(b, part) is None:  # one difference, among the fields
            continue
        tensors_a, tensors_b = _tensors(a, part), _tensors(b, part)
        differing = list(_differing(part, tensors_a, tensors_b, relax))
        equal[part] = len(tensors_a.keys() | tensors_b.keys()) - len(differing)
        found += sorted(differing, key=lambda each: -(math.inf if each.max_abs is None else each.max_abs))
    return DiffReport(*names, tuple(found), tuple(_fields(a, b)), equal)


@dataclass(frozen=True)
class _Opened:
    """A state and how to give its memory back."""

    state: TrainState
    release: Callable[[], object]


def _opened(path: Path, model_config: ModelOption, options: Options) -> _Opened:
    """Values as they are stored: not cast, and NaN is no reason to refuse."""
    if is_canonical(path):
        return _Opened(read_state(path), lambda: None)
    converted = convert(path, model_config, options)
    scan(path, converted.contents.parts)
    return _Opened(converted.state, converted.contents.release)


def _tensors(state: TrainState, part: str) -> dict[str, Tensor]:
    return flatten(state.optimizer or {}) if part == "optimizer" else dict(getattr(state, part))


def _differing(
    part: str, a: Mapping[str, Tensor], b: Mapping[str, Tensor], relax: Callable[[], object]
) -> Iterator[TensorDiff]:
    for name in sorted(a.keys() | b.keys()):
        if name not in b:
            yield TensorDiff(part, name, Difference.ONLY_A, _kind(a[name]), "")
        elif name not in a:
            yield TensorDiff(part, name, Difference.ONLY_B, "", _kind(b[name]))
        elif a[name].shape != b[name].shape:
            yield TensorDiff(part, name, Difference.SHAPE, _kind(a[name]), _kind(b[name]))
        else:
            kind = Difference.VALUES if a[name].dtype == b[name].dtype else Difference.DTYPE
            figures = _figures(a[name], b[name])
            if figures is not None or kind is Difference.DTYPE:
                yield TensorDiff(part, name, kind, _kind(a[name]), _kind(b[name]), **(figures or _NO_DIFFERENCE))
        relax()


_NO_DIFFERENCE: dict[str, Any] = {"max_abs": 0.0, "mean_abs": 0.0, "relative": 0.0, "cosine": 1.0, "changed": 0}


def _figures(a: Tensor, b: Tensor) -> dict[str, Any] | None:
    """How much two tensors of one shape differ; none when they do not."""
    if a.dtype == b.dtype and all(torch.equal(x, y) for x, y in zip(_pieces(a), _pieces(b), strict=True)):
        return None
    worst, total, changed, finite = 0.0, 0.0, 0, 0
    square, square_a, square_b, dot = 0.0, 0.0, 0.0, 0.0
    for x, y in zip(_pieces(a), _pieces(b), strict=True):
        x, y = x.double(), y.double()
        gap = (x - y).abs_()
        if math.isfinite(gap.max()):
            changed += int(torch.count_nonzero(gap))
            finite += gap.numel()
        else:  # NaN or infinity in one of them, or in both
            changed += int(((x != y) & ~(x.isnan() & y.isnan())).sum())
            whole = torch.isfinite(x) & torch.isfinite(y)
            finite += int(whole.sum())
            x, y = x.where(whole, 0), y.where(whole, 0)
            gap = (x - y).abs_()
        worst, total = max(worst, float(gap.max())), total + float(gap.sum())
        square, dot = square + float(gap.dot(gap)), dot + float(x.dot(y))
        square_a, square_b = square_a + float(x.dot(x)), square_b + float(y.dot(y))
    if not changed:
        return None
    return {
        "max_abs": worst,
        "mean_abs": total / max(finite, 1),
        "relative": math.sqrt(square / square_a) if square_a else None,
        "cosine": max(-1.0, min(1.0, dot / math.sqrt(square_a * square_b))) if square_a and square_b else None,
        "changed": changed,
    }


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    flat = tensor.detach().contiguous().reshape(-1)
    return iter(flat.split(_PIECE)) if flat.numel() else iter(())


def _fields(a: TrainState, b: TrainState) -> Iterator[FieldDiff]:
    """Plain values; an average, an optimizer or generators that only one of them has are one difference each."""
    flat_a, flat_b = (dict(_flat(_plain(state), "")) for state in (a, b))
    for name in sorted(flat_a.keys() | flat_b.keys()):
        if flat_a.get(name) != flat_b.get(name):
            yield FieldDiff(name, flat_a.get(name), flat_b.get(name))


def _plain(state: TrainState) -> dict[str, Json]:
    rows = {str(row.get("step", i)): row for i, row in enumerate(state.history)}
    optimizer = "fresh" if state.optimizer is None else f"moments of {len(state.optimizer)} parameters"
    generators = None if state.rng is None else f"{len(state.rng)} generators"
    average = None if state.ema is None else f"average of {len(state.ema)} tensors"
    return {**state.plain(), "history": rows, "ema": average, "optimizer": optimizer, "rng": generators}


def _flat(value: Json, name: str) -> Iterator[tuple[str, Json]]:
    """Nested values by dotted names."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, list(value) if isinstance(value, tuple) else value


def _kind(tensor: Tensor) -> str:
    return f"{DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype))} {list(tensor.shape)}"


def _cut(value: Json) -> str:
    text = str(value)
    return text if len(text) <= _LINE else f"{text[:_LINE]}... ({len(text)} characters)"


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
