"""Where the weights are: every set of tensors in an object that could be a model's, with the way to it.

A set is a dict of tensors, a whole module, a dict of such dicts (one per encoder), or a list of tensors that an average
keeps in the order of the parameters. Contract: at most three levels down and a few thousand values are looked at;
optimizers, schedules and generators are not entered; nothing is followed twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from orchestrator.checkpoint.formats.base import Contents
from orchestrator.checkpoint.formats.layouts.trees import is_module, module_tensors, script_tensors
from orchestrator.checkpoint.formats.layouts.values import as_tensor, entries_of, is_tensor
from orchestrator.checkpoint.formats.pickles import Inert
from orchestrator.checkpoint.names import net_prefixes

_DEEPEST = 3
_MOST_VALUES = 20_000
_LONGEST_LIST = 16
COUNTERS = ("global_step", "step", "iteration", "global_epoch", "epoch")
"""Numbers that lie among tensors without being weights."""
AVERAGES_ITSELF = "initted"
"""ema-pytorch's mark; its `step` counts updates of the average."""

_PARTS_OF_LAYERS = ("weight", "bias")
_NO_WEIGHTS = ("optim", "sched", "scaler", "rng", "loops", "config", "args", "hparams", "hyper")


@dataclass(frozen=True)
class TensorSet:
    """Tensors that could be a model's."""

    path: tuple[str, ...]
    """Keys from the whole object to it."""
    weights: dict[str, Any]
    """Tensors by the names in the file; empty for a list."""
    shadows: tuple[Any, ...] = ()
    """Tensors without names."""
    kind: str = "dict"
    """`dict`, `module` or `torchscript`."""
    averaged: str = ""
    """What says that it is an average; empty when nothing does."""
    nets: tuple[str, ...] = field(default=())
    """Prefixes of the SyncNets in it."""

    @property
    def is_model(self) -> bool:
        """Whether its names are those of a model's tensors, and not of a cached mel's or of figures."""
        return any("." in name or name.endswith(_PARTS_OF_LAYERS) for name in self.weights)

    @property
    def where(self) -> str:
        """For messages."""
        return ".".join(self.path) or "the file itself"


def tensor_sets(contents: Contents) -> list[TensorSet]:
    """All sets of tensors, those with a SyncNet first."""
    if contents.container.startswith("torchscript") and isinstance(contents.data, Inert):
        return [_set((), script_tensors(contents.data), "torchscript")]
    found = _Search().visit(contents.data, ())
    return sorted(found, key=lambda item: not item.nets)


def direct_tensors(value: object) -> dict[str, Any]:
    """The tensors that lie directly in a dict, whatever lies beside them; counters are none."""
    entries = entries_of(value) or {}
    counters = () if AVERAGES_ITSELF in entries else COUNTERS
    tensors = {key: as_tensor(item) for key, item in entries.items() if isinstance(key, str) and is_tensor(item)}
    return {
        key: tensor
        for key, tensor in tensors.items()
        if tensor is not None and not (key in counters and isinstance(tensor, Tensor) and tensor.numel() == 1)
    }


class _Search:
    """One walk with its budget."""

    def __init__(self) -> None:
        self.left = _MOST_VALUES
        self.seen: set[int] = set()

    def visit(self, value: Any, path: tuple[str, ...]) -> list[TensorSet]:
        self.left -= 1
        if self.left < 0 or id(value) in self.seen:
            return []
        if isinstance(value, (dict, list, tuple, Inert)):
            self.seen.add(id(value))
        if is_module(value):
            return [_set(path, module_tensors(value), "module")]
        if isinstance(value, (list, tuple)):
            return self.sequence(value, path)
        entries = entries_of(value)
        return [] if entries is None else self.entries(entries, value, path)

    def sequence(self, values: list[Any] | tuple[Any, ...], path: tuple[str, ...]) -> list[TensorSet]:
        if values and all(isinstance(value, Tensor) for value in values):
            return [TensorSet(path, {}, tuple(values))]
        if len(values) > _LONGEST_LIST or len(path) >= _DEEPEST:
            return []
        return [item for i, value in enumerate(values) for item in self.visit(value, (*path, str(i)))]

    def entries(self, entries: Mapping[Any, Any], value: Any, path: tuple[str, ...]) -> list[TensorSet]:
        own = _set(path, direct_tensors(value))
        inner: list[TensorSet] = []
        if len(path) < _DEEPEST:
            for key, item in entries.items():
                if isinstance(key, str) and not is_tensor(item) and not _is_no_place(key):
                    inner += self.visit(item, (*path, key))
        if not own.nets and not any(item.nets for item in inner):
            whole = _set(path, {**own.weights, **_joined(inner, len(path))})
            if whole.nets:
                return [whole]
        return [own, *inner] if own.weights else inner


def _set(path: tuple[str, ...], weights: dict[str, Any], kind: str = "dict") -> TensorSet:
    return TensorSet(path, weights, kind=kind, nets=tuple(net_prefixes(weights)))


def _joined(parts: list[TensorSet], depth: int) -> dict[str, Any]:
    """Several dicts as one, by dotted names: as when each encoder is an entry."""
    return {".".join([*part.path[depth:], name]): tensor for part in parts for name, tensor in part.weights.items()}


def _is_no_place(key: str) -> bool:
    lowered = key.lower()
    return any(word in lowered for word in _NO_WEIGHTS)
