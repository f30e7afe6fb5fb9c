"""The fixed list of harmless classes that checkpoints hold beside weights, and the inert objects read in their place.

Why stand-ins: `torch.load(weights_only=True)` refuses every class but torch's own. Allowing the real OmegaConf or numpy
classes would run their constructors on data from the file; a stand-in keeps the arguments and does nothing. The only
values taken out are numpy scalars (a step, a loss), decoded here, and the contents of a defaultdict.
Contract: the list is fixed; nothing that a file or a person says extends it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

_NUMPY_CODES = {
    "f2": "e", "f4": "f", "f8": "d", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip
# torch keeps one list for the whole process
_LOCK = Lock()


class Inert:
    """Takes the place of an object beside the weights; it keeps what the file gives it and does nothing."""

    def __new__(cls, *args: Any) -> Inert:
        self = object.__new__(cls)
        self.args = args
        self.state = None
        return self

    def __init__(self, *args: Any) -> None:
        """Everything is done in `__new__`, which is all that unpickling calls."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    args: tuple[Any, ...]
    state: Any


class NumpyDtype(Inert):
    """Takes the place of `numpy.dtype`."""

    @property
    def struct_format(self) -> str | None:
        """How `struct` spells this type; none for strings, objects and records."""
        code = _NUMPY_CODES.get(str(self.args[0]).lstrip("<>|=")) if self.args else None
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "<"
        return code and (">" if order == ">" else "<") + code


def numpy_scalar(dtype: Any, raw: Any = b"") -> Any:
    """The Python number in a pickled numpy scalar, or an inert object for any other type."""
    code = dtype.struct_format if isinstance(dtype, NumpyDtype) else None
    if code and isinstance(raw, bytes) and len(raw) == struct.calcsize(code):
        return struct.unpack(code, raw)[0]
    return Inert(dtype, raw)


def plain_dict(*_: Any) -> dict[Any, Any]:
    """A dict in place of a defaultdict: its factory is never called."""
    return {}


def _names(module: str, names: str) -> list[str]:
    return [f"{module}.{name}" for name in names.split()]


_INERT_NAMES = [
    *_names("argparse", "Namespace"),
    *_names("types", "SimpleNamespace"),
    *_names("typing", "Any"),
    *_names("builtins", "dict list tuple int float bool str bytes object"),
    *_names("datetime", "datetime date time timedelta timezone"),
    *_names("pathlib", "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"),
    *_names("pathlib._local", "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"),
    *_names("omegaconf.dictconfig", "DictConfig"),
    *_names("omegaconf.listconfig", "ListConfig"),
    *_names("omegaconf.base", "ContainerMetadata Metadata"),
    *_names("omegaconf.nodes", "AnyNode StringNode IntegerNode FloatNode BooleanNode BytesNode PathNode EnumNode"),
    *_names("numpy", "ndarray bool_ float16 float32 float64 int32 int64"),
    *_names("numpy.core.multiarray", "_reconstruct"),
    *_names("numpy._core.multiarray", "_reconstruct"),
]
ALLOWED: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(_INERT_NAMES, Inert),
    "collections.defaultdict": plain_dict,
    "numpy.dtype": NumpyDtype,
    "numpy.core.multiarray.scalar": numpy_scalar,
    "numpy._core.multiarray.scalar": numpy_scalar,
}
"""Class or function that a file may name -> what is called in its place."""


@contextmanager
def allowed_globals() -> Iterator[None]:
    """Let `torch.load(weights_only=True)` use the stand-ins, in this thread of this process, for now."""
    with _LOCK, torch.serialization.safe_globals([(standin, name) for name, standin in ALLOWED.items()]):
        yield
