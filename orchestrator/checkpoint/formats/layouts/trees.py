"""Whole modules as state dicts: the tensors of a pickled `nn.Module` or a TorchScript program, without their classes.

Contract: names as `state_dict` gives them, buffers that are not saved left out; what refers to itself or branches
without end is followed only so far, and then lacks tensors instead of time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.checkpoint.formats.layouts.values import as_tensor, is_tensor
from orchestrator.checkpoint.formats.pickles import Inert

_DEEPEST = 64
_MOST_MODULES = 10_000
_COMPILED = "OptimizedModule"
_MARKS = ("_parameters", "_buffers", "_modules")


def is_module(value: object) -> bool:
    """Whether it is a pickled `nn.Module`, compiled or not."""
    value = _uncompiled(value)
    return isinstance(value, Inert) and all(isinstance(value.attributes().get(mark), dict) for mark in _MARKS)


def module_tensors(value: Inert) -> dict[str, Any]:
    """Parameters and buffers of a pickled module by dotted names."""
    return _Tree(_own_tensors, _submodules).tensors(_uncompiled(value))


def script_tensors(value: Inert) -> dict[str, Any]:
    """Tensors of a TorchScript program by dotted names."""
    return _Tree(_attribute_tensors, _attribute_objects).tensors(value)


class _Tree:
    """One walk with its budget."""

    def __init__(self, own: Any, children: Any) -> None:
        self.own, self.children = own, children
        self.left = _MOST_MODULES
        self.above: set[int] = set()

    def tensors(self, value: Inert) -> dict[str, Any]:
        return {name: tensor for name, tensor in self._walk(value, "", 0) if tensor is not None}

    def _walk(self, value: Inert, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
        self.left -= 1
        if self.left < 0 or depth > _DEEPEST or id(value) in self.above:
            return
        self.above.add(id(value))
        for name, tensor in self.own(value):
            yield prefix + name, as_tensor(tensor)
        for name, child in self.children(value):
            yield from self._walk(child, f"{prefix}{name}.", depth + 1)
        self.above.discard(id(value))


def _uncompiled(value: Any) -> Any:
    """What torch.compile wrapped: newer versions pickle it as an argument, older ones as a submodule."""
    compiled = isinstance(value, Inert) and value.origin.name == _COMPILED and value.state is None
    return value.args[0] if compiled and value.args and isinstance(value.args[0], Inert) else value


def _own_tensors(module: Inert) -> Iterator[tuple[str, Any]]:
    attributes = module.attributes()
    unsaved = attributes.get("_non_persistent_buffers_set")
    listed = unsaved if isinstance(unsaved, (set, frozenset, list, tuple)) else ()
    hidden = {name for name in listed if isinstance(name, str)}
    yield from _named(attributes.get("_parameters"), is_tensor)
    yield from ((name, value) for name, value in _named(attributes.get("_buffers"), is_tensor) if name not in hidden)


def _submodules(module: Inert) -> Iterator[tuple[str, Inert]]:
    yield from ((name, _uncompiled(child)) for name, child in _named(module.attributes().get("_modules"), is_module))


def _attribute_tensors(value: Inert) -> Iterator[tuple[str, Any]]:
    yield from _named(value.attributes(), is_tensor)


def _attribute_objects(value: Inert) -> Iterator[tuple[str, Inert]]:
    yield from _named(value.attributes(), lambda item: isinstance(item, Inert) and not is_tensor(item))


def _named(values: object, wanted: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        yield from ((name, value) for name, value in values.items() if isinstance(name, str) and wanted(value))
