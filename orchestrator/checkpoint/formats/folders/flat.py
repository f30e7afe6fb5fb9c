"""Tensors cut out of flat rows of numbers, as ZeRO keeps them: stage 1 and 2 cut a whole group, stage 3 each tensor.

Contract: a tensor that lies in one rank's row is a view into it; only those that ranks share are joined and copied.
A row that is too short, or longer than padding explains, is told by a ValueError.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
"""Tensors by name, in the order in which they lie in a row."""


def empty(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without elements; flat where the shape is absurd."""
    try:
        return torch.empty(shape, dtype=dtype)
    except RuntimeError:
        return torch.empty(0, dtype=dtype)


class Row:
    """Flat tensors, one after another, looked at as one."""

    def __init__(self, pieces: Iterable[Tensor]) -> None:
        self.pieces = tuple(piece for piece in pieces if piece.numel())
        self.ends = list(accumulate(piece.numel() for piece in self.pieces))
        self.size = self.ends[-1] if self.ends else 0

    def cut(self, start: int, count: int) -> list[Tensor]:
        """The stretches of the pieces that make up `count` numbers."""
        if start + count > self.size:
            raise ValueError(f"{start + count - self.size:,} numbers are missing at its end")
        found = []
        at = bisect_right(self.ends, start)
        while count > 0:
            inside = start - (self.ends[at] - self.pieces[at].numel())
            taken = min(self.ends[at] - start, count)
            found.append(self.pieces[at].narrow(0, inside, taken))
            start, count, at = start + taken, count - taken, at + 1
        return found


def cut_whole(row: Row, shapes: Shapes, ranks: int) -> dict[str, Tensor]:
    """Stage 1 and 2: the tensors of a group, whose row is padded to a multiple of twice the ranks."""
    found, at = {}, 0
    for name, shape in shapes.items():
        found[name] = _joined(row.cut(at, math.prod(shape)), shape)
        at += math.prod(shape)
    unit = 2 * ranks
    if _rounded(at, unit) != _rounded(row.size, unit):
        raise ValueError(f"it has {row.size:,} numbers, but its tensors {at:,}")
    return found


def cut_parts(rows: Sequence[Row], shapes: Shapes) -> dict[str, Tensor]:
    """Stage 3: every tensor is padded to a multiple of the ranks and cut; each rank's parts lie in its row."""
    found, at = {}, 0
    for name, shape in shapes.items():
        part = _rounded(math.prod(shape), len(rows)) // len(rows)
        found[name] = _joined([piece for row in rows for piece in row.cut(at, part)], shape)
        at += part
    for row in rows:
        if row.size != at:
            raise ValueError(f"it has {row.size:,} numbers, but its tensors {at:,}")
    return found


def _joined(pieces: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    if not pieces:
        return empty(shape)
    flat = pieces[0] if len(pieces) == 1 else torch.cat(tuple(pieces))
    return flat[: math.prod(shape)].view(shape)


def _rounded(count: int, unit: int) -> int:
    return -(-count // unit) * unit
