"""Tensors out of a pickle: views into the bytes that a container gives for a storage, checked before they are made.

Contract: a tensor never looks beyond its storage; its values are the bytes of the file, untouched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orchestrator.checkpoint.formats.pickles.inert import Global, OddTensor
from orchestrator.checkpoint.formats.pickles.machine import BrokenPickle

_MOST_DIMENSIONS = 64
_MOST_ELEMENTS = 1 << 48
_STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
    "QUInt4x2Storage": torch.uint8,
    "QUInt2x4Storage": torch.uint8,
}
_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}


@dataclass(frozen=True)
class Storage:
    """A row of numbers that tensors look into."""

    view: memoryview
    """Its bytes."""
    dtype: torch.dtype
    """How they are read, unless a tensor says otherwise."""

    def flat(self, dtype: torch.dtype | None = None) -> Tensor:
        """All of it as one dimension."""
        kind = dtype or self.dtype
        count = len(self.view) // kind.itemsize
        if count == 0:
            return torch.empty(0, dtype=kind)
        return torch.frombuffer(self.view, dtype=torch.uint8)[: count * kind.itemsize].view(kind)


def storage_dtype(kind: object) -> torch.dtype:
    """The element type of `torch.FloatStorage` and its like.

    Raises:
        BrokenPickle: it is no storage type.
    """
    name = kind.name.rpartition(".")[2] if isinstance(kind, Global) else ""
    if name not in _STORAGE_TYPES:
        raise BrokenPickle(f"a storage is of the unknown type {str(kind)[:80]}")
    return _STORAGE_TYPES[name]


def aligned(view: memoryview, dtype: torch.dtype) -> memoryview:
    """The same bytes where the processor can read them as numbers: copied when they lie at an odd address."""
    if not len(view):
        return view
    address = torch.frombuffer(view, dtype=torch.uint8).data_ptr()
    return view if address % dtype.itemsize == 0 else memoryview(bytearray(view))


def without_values(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of no elements.

    Raises:
        BrokenPickle: another dimension of it is so long that not even its strides could be written down.
    """
    if math.prod(max(1, count) for count in shape) >= _MOST_ELEMENTS:
        raise BrokenPickle(f"a tensor claims the shape {list(shape)[:8]}")
    return torch.empty(tuple(shape), dtype=dtype)


def swapped(view: memoryview, dtype: torch.dtype) -> memoryview:
    """The bytes of a storage from a machine of the other byte order, in ours."""
    size = dtype.itemsize // (2 if dtype.is_complex else 1)
    numbers = np.frombuffer(view, dtype=f"u{size}") if len(view) % size == 0 else np.empty(0, np.uint8)
    return memoryview(bytearray(numbers.byteswap().tobytes()))


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
    """`_rebuild_tensor` and its second version, which adds requires_grad, hooks and flags."""
    flags = rest[2] if len(rest) > 2 and isinstance(rest[2], dict) else {}
    return _view(storage, offset, size, stride, None, flags)


def rebuild_tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, flags: Any = None
) -> Any:
    """The third version, which names the element type."""
    kind = _dtype(dtype)
    if kind is None:
        return OddTensor(Global("torch._utils", "_rebuild_tensor_v3"), (), f"of type {dtype}")
    return _view(storage, offset, size, stride, kind, flags or {})


def rebuild_parameter(data: Any, *_: Any) -> Any:
    """A parameter, or a tensor of another device, is the tensor it is made from."""
    return data


def rebuild_typed(function: Any, kind: Any, args: Any, *_: Any) -> Any:
    """A tensor of a subclass: the tensor it would be made from."""
    maker = _BY_TYPE.get(str(function))
    if maker is None or not isinstance(args, tuple):
        return OddTensor(Global("torch._tensor", "_rebuild_from_type_v2"), (), f"of class {kind}")
    return maker(*args)


def odd(name: str, kind: str) -> Callable[..., OddTensor]:
    """What stands for a kind of tensor that is not made."""
    module, _, short = name.rpartition(".")
    return lambda *args: OddTensor(Global(module, short), args, kind)


TENSORS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": rebuild_parameter,
    "torch._utils._rebuild_device_tensor_from_numpy": rebuild_parameter,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": rebuild_parameter,
    "torch._tensor._rebuild_from_type": rebuild_typed,
    "torch._tensor._rebuild_from_type_v2": rebuild_typed,
    "torch.nn.parameter.Parameter": rebuild_parameter,
    **{
        name: odd(name, kind)
        for name, kind in (
            ("torch._utils._rebuild_sparse_tensor", "sparse"),
            ("torch._utils._rebuild_sparse_csr_tensor", "sparse"),
            ("torch._utils._rebuild_nested_tensor", "nested"),
            ("torch._utils._rebuild_qtensor", "quantized"),
            ("torch._utils._rebuild_meta_tensor_no_storage", "without values (on the meta device)"),
            ("torch._utils._rebuild_wrapper_subclass", "wrapped, such as one worker's shard"),
        )
    },
}
"""The functions of torch that are followed. torch.save writes no other for tensors."""

_BY_TYPE = {name: maker for name, maker in TENSORS.items() if "from_type" not in name}


def _view(storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None, flags: dict[Any, Any]) -> Any:
    if not isinstance(storage, Storage):
        raise BrokenPickle("a tensor has no storage")
    shape, steps = _counts(size), _counts(stride)
    if len(shape) != len(steps) or not isinstance(offset, int) or offset < 0:
        raise BrokenPickle("a tensor's shape and strides do not belong together")
    kind = dtype or storage.dtype
    last = offset + sum((count - 1) * step for count, step in zip(shape, steps, strict=True))
    if math.prod(shape) > 0 and last >= len(storage.view) // kind.itemsize:
        raise BrokenPickle(f"a tensor of shape {list(shape)[:8]} looks beyond its storage")
    if math.prod(shape) == 0:
        return without_values(shape, kind)
    tensor = storage.flat(dtype).as_strided(shape, steps, offset)
    return tensor.neg() if flags.get("neg") is True else tensor


def _counts(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > _MOST_DIMENSIONS:
        raise BrokenPickle("a tensor's shape is no tuple")
    if not all(isinstance(count, int) and 0 <= count < 1 << 62 for count in value):
        raise BrokenPickle("a tensor's shape holds something else than counts")
    return tuple(value)


def _dtype(value: Any) -> torch.dtype | None:
    if isinstance(value, Global) and value.module == "torch":
        return _DTYPES.get(value.name)
    return None
