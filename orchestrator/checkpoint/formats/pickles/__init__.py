"""The inert pickle reader: streams in, tensors and plain data out, and nothing that a stream names is imported or run.

`read` is the only way in. `runs_code` tells which of the names that stayed inert would have been dangerous elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.checkpoint.formats.pickles.dangerous import runs_code
from orchestrator.checkpoint.formats.pickles.inert import Global, Inert, OddTensor
from orchestrator.checkpoint.formats.pickles.machine import BrokenPickle, Stream, read_pickle
from orchestrator.checkpoint.formats.pickles.numpy_values import NUMPY, NumpyArray
from orchestrator.checkpoint.formats.pickles.plain import PLAIN, plain
from orchestrator.checkpoint.formats.pickles.tensors import (
    TENSORS,
    Storage,
    aligned,
    storage_dtype,
    swapped,
    without_values,
)

_REBUILD = {**PLAIN, **NUMPY, **TENSORS}
# named as values, never called: element types, layouts, storage types, the hooks of a tensor
_HARMLESS_PREFIXES = ("torch.",)


def read(
    stream: Stream,
    names: set[str],
    persistent: Callable[[Any], Any] | None = None,
    load_storage: Callable[[Any, set[str]], Any] | None = None,
) -> Any:
    """Read one pickle.

    Args:
        stream: where it begins; the stream stands behind it afterwards.
        names: every name in it that stays inert is added.
        persistent: what a reference to something outside of the pickle stands for.
        load_storage: what a storage saved as bytes inside of the pickle stands for; it adds to `names` as well.

    Raises:
        BrokenPickle: it is cut short, damaged, or no pickle.
    """
    found: set[str] = set()
    rebuild = dict(_REBUILD)
    if load_storage is not None:
        rebuild["torch.storage._load_from_bytes"] = lambda raw: load_storage(raw, found)
    value = read_pickle(stream, rebuild, found, persistent)
    names |= {name for name in found if not _is_type_name(name)}
    return value


def references(stream: Stream) -> list[Any]:
    """Everything outside of a pickle that it refers to, in order; nothing of it is made.

    Raises:
        BrokenPickle: it is cut short, damaged, or no pickle.
    """
    found: list[Any] = []
    read_pickle(stream, {}, set(), found.append)
    return found


def report_names(names: Iterable[str]) -> tuple[str, ...]:
    """In the order in which a report lists them: dangerous ones first."""
    return tuple(sorted(names, key=lambda name: (not runs_code(name), name)))


def _is_type_name(name: str) -> bool:
    """`torch.FloatStorage`, `torch.float32`, `torch.strided`: values, which no call ever follows."""
    parts = name.split(".")
    return name.startswith(_HARMLESS_PREFIXES) and (
        parts[-1].endswith("Storage") or (len(parts) == 2 and parts[-1].islower())
    )


__all__ = [
    "BrokenPickle",
    "Global",
    "Inert",
    "NumpyArray",
    "OddTensor",
    "Storage",
    "Stream",
    "aligned",
    "plain",
    "read",
    "references",
    "report_names",
    "runs_code",
    "storage_dtype",
    "swapped",
    "without_values",
]
