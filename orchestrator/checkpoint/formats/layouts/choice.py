"""Which of the sets of tensors in a file is taken: the only SyncNet in it, plain or averaged as the person wants.

Contract: nothing is chosen silently. Two plain sets are refused by name; an average is only taken when it is asked for
or when there is nothing else, and a decision says so either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from orchestrator.checkpoint.formats.base import refuse
from orchestrator.checkpoint.formats.layouts.search import TensorSet
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.errors import CheckpointError, RefusalReason

_USUAL = ("state_dict", "model_state_dict", "model", "module", "net", "weights", "params", "model_state", "syncnet")


@dataclass(frozen=True)
class Chosen:
    """The weights to take."""

    taken: TensorSet
    """Their set."""
    decisions: tuple[Decision, ...] = ()
    """Why this one."""

    @property
    def averaged(self) -> bool:
        """Whether they are an average, to which no optimizer's moments belong."""
        return bool(self.taken.averaged)


def choose(nets: Sequence[TensorSet], others: Sequence[TensorSet], weights: str, path: Path) -> Chosen:
    """Take one set.

    Args:
        nets: sets with a SyncNet, told apart.
        others: sets without, of which one is taken to be named where there is no SyncNet.
        weights: `raw` or `ema`.
        path: for messages.

    Raises:
        CheckpointError: `mismatch`, when it is not clear which one is meant.
    """
    plain = _distinct([net for net in nets if not net.averaged])
    averages = _distinct([net for net in nets if net.averaged])
    if weights == "ema":
        return _average(averages, path)
    if len(plain) > 1:
        raise _several(plain, "SyncNets", path)
    if plain:
        return Chosen(plain[0], _left(averages))
    if len(averages) > 1:
        raise _several(averages, "averages of a SyncNet", path)
    if averages:
        why = f"the only weights in the file are a running average (EMA or SWA, by `{averages[0].averaged}`)"
        return Chosen(averages[0], (Decision("weights.average", DecisionSource.FILE, "averaged (ema)", why),))
    return Chosen(_likeliest(others))


def _average(averages: Sequence[TensorSet], path: Path) -> Chosen:
    if not averages:
        what = "holds no averaged weights (EMA), but they were asked for"
        raise refuse(path, RefusalReason.MISMATCH, what, "leave out `weights=ema` to take the weights that are there")
    if len(averages) > 1:
        raise _several(averages, "averages of a SyncNet", path)
    why = f"the averaged weights of the file (EMA or SWA, by `{averages[0].averaged}`) were asked for"
    return Chosen(averages[0], (Decision("weights.average", DecisionSource.OPTION, "ema", why),))


def _left(averages: Sequence[TensorSet]) -> tuple[Decision, ...]:
    """That there were averages."""
    if not averages:
        return ()
    where = ", ".join(f"`{average.averaged}`" for average in averages)
    why = f"the file also holds averaged weights ({where}), which were left; `weights=ema` takes them"
    return (Decision("weights.average", DecisionSource.DEFAULT, "raw", why),)


def _several(sets: Sequence[TensorSet], what: str, path: Path) -> CheckpointError:
    named = ", ".join(f"`{item.where}`" for item in sets[:6])
    hint = "save the state_dict of the one that you mean alone"
    return refuse(path, RefusalReason.MISMATCH, f"holds {len(sets)} {what}, in {named}", hint)


def _distinct(sets: Sequence[TensorSet]) -> list[TensorSet]:
    """Without sets that are the very same tensors again."""
    found: dict[Any, TensorSet] = {}
    for item in sets:
        found.setdefault(_identity(item), item)
    return list(found.values())


def _identity(item: TensorSet) -> Any:
    tensors = [tensor for tensor in item.weights.values() if isinstance(tensor, Tensor) and not tensor.is_sparse]
    return tuple(sorted({tensor.data_ptr() for tensor in tensors if tensor.numel() and not tensor.is_meta}))


def _likeliest(others: Sequence[TensorSet]) -> TensorSet:
    """Where there is no SyncNet: the set by its usual name, or the largest, so that it is named for what it is."""
    named = [item for key in _USUAL for item in others if item.weights and item.path[-1:] == (key,)]
    return named[0] if named else max(others, key=lambda item: len(item.weights))
