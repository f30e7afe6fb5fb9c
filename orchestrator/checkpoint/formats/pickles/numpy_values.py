"""numpy arrays and scalars out of a pickle, of every version of numpy, without numpy's own unpickling.

Contract: arrays of numbers become `NumpyArray`, which `values.tensor_of` turns into tensors; scalars become Python
numbers; arrays of objects, strings and records stay inert.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orchestrator.checkpoint.formats.pickles.inert import Global, Inert

_SCALARS = {
    "f2": "e", "f4": "f", "f8": "d", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip
_TORCH_READS = {"f2", "f4", "f8", "b1", "i1", "i2", "i4", "i8", "u1"}


class NumpyDtype(Inert):
    """Stands for `numpy.dtype`: a code such as `f4`, and the byte order in its state."""

    __slots__ = ()

    @property
    def code(self) -> str | None:
        """`f4` and its like; none for strings, objects and records."""
        text = str(self.args[0]).lstrip("<>|=") if self.args else ""
        return text if text in _SCALARS else None

    @property
    def order(self) -> str:
        """`<` or `>`."""
        state = self.state
        return ">" if isinstance(state, tuple) and len(state) > 1 and state[1] == ">" else "<"


class NumpyArray(Inert):
    """Stands for `numpy.ndarray`; the state brings shape, type, order and bytes."""

    __slots__ = ()

    def tensor(self) -> Tensor | None:
        """The array as a tensor, copied out of the pickle; none when it holds no numbers or does not add up."""
        if not isinstance(self.state, tuple) or len(self.state) < 5:
            return None
        shape, dtype, fortran, raw = self.state[-4:]
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(dtype, NumpyDtype) or dtype.code not in _TORCH_READS or not isinstance(shape, tuple):
            return None
        if not isinstance(data, (bytes, bytearray)) or not all(isinstance(n, int) and n >= 0 for n in shape):
            return None
        if len(shape) > 32 or math.prod(shape) * int(dtype.code[1:]) != len(data):
            return None
        array = np.frombuffer(data, dtype=dtype.order + dtype.code).reshape(shape, order="F" if fortran else "C")
        return torch.from_numpy(np.array(array, dtype=dtype.code, order="C"))


def _array(*args: Any) -> NumpyArray:
    return NumpyArray(Global("numpy", "ndarray"), args)


def _dtype(*args: Any) -> NumpyDtype:
    return NumpyDtype(Global("numpy", "dtype"), args)


def _scalar(dtype: Any = None, raw: Any = b"") -> Any:
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    code = dtype.code if isinstance(dtype, NumpyDtype) else None
    if code and isinstance(data, bytes) and len(data) == int(code[1:]):
        return struct.unpack(dtype.order + _SCALARS[code], data)[0]
    return NotImplemented


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> Any:
    array = _array()
    array.state = (1, shape, dtype, order == "F", raw)
    return array


_MODULES = ("numpy.core", "numpy._core")
NUMPY: dict[str, Any] = {
    "numpy.dtype": _dtype,
    "numpy.ndarray": _array,
    **{f"{module}.multiarray._reconstruct": _array for module in _MODULES},
    **{f"{module}.multiarray.scalar": _scalar for module in _MODULES},
    **{f"{module}.numeric._frombuffer": _from_buffer for module in _MODULES},
}
"""The functions of numpy that are followed."""
