"""Which classes and functions does a pickle name? Told by reading its instructions, without following any of them.

Why: the refusal of an unsafe file names everything it would have run, not just the first thing, and is decided before
anything is unpickled. `torch.load(weights_only=True)` stays the second wall behind it.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from orchestrator.checkpoint.formats.standins import ALLOWED

_TORCH_READS = {
    "collections.OrderedDict",
    "collections.Counter",
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.set",
    "builtins.complex",
}
# what a reader of broken pickles may run into: strings beyond the end, lengths beyond the memory, bad UTF-8
_SCAN_ERRORS = (IndexError, KeyError, AssertionError, MemoryError, OverflowError, UnicodeError, struct.error)
_ITEM_BYTES = {
    "torch DoubleStorage": 8,
    "torch LongStorage": 8,
    "torch HalfStorage": 2,
    "torch BFloat16Storage": 2,
    "torch ShortStorage": 2,
    "torch CharStorage": 1,
    "torch ByteStorage": 1,
    "torch BoolStorage": 1,
}
_INTEGERS = {"BININT", "BININT1", "BININT2", "LONG1"}
_STRINGS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}


def named_globals(pickled: BinaryIO) -> list[str]:
    """Every `module.name` in one pickle, sorted; the stream stands behind the pickle afterwards.

    Raises:
        ValueError: the stream is no whole pickle.
    """
    found: set[str] = set()
    strings: list[str] = []  # the last two that were put on the stack: what STACK_GLOBAL takes
    memo: list[str] = []
    last = "?"
    for op, argument, _ in _instructions(pickled):
        if op.name in ("GLOBAL", "INST"):
            found.add(_python3_name(str(argument).replace(" ", ".", 1)))
        elif op.name == "STACK_GLOBAL":
            found.add(_python3_name(".".join(strings[-2:])))
        elif op.name == "MEMOIZE":
            memo.append(last)
            continue
        last = str(argument) if op.name in _STRINGS else "?"
        if op.name in ("BINGET", "LONG_BINGET") and isinstance(argument, int) and argument < len(memo):
            last = memo[argument]
        if last != "?":
            strings = [*strings[-1:], last]
    return sorted(found)


def tensor_bytes(pickled: BinaryIO) -> int:
    """How many bytes of tensors the object pickle of a torch zip file refers to, from its storages' sizes.

    Raises:
        ValueError: the stream is no whole pickle.
    """
    sizes: dict[str, int] = {}
    memo: dict[int, object] = {}
    recent: list[object] = [None] * 4  # storages are ("storage", type, key, location, count): the last four of these
    for op, argument, _ in _instructions(pickled):
        if op.name in ("BINPUT", "LONG_BINPUT") and isinstance(argument, int):
            memo[argument] = recent[-1]
        elif op.name == "BINPERSID":
            kind, key, _, count = recent
            sizes[str(key)] = _ITEM_BYTES.get(str(kind), 4) * (count if isinstance(count, int) else 0)
        elif op.name in ("BINGET", "LONG_BINGET") and isinstance(argument, int):
            recent = [*recent[1:], memo.get(argument)]
        elif op.name == "GLOBAL" or op.name in _STRINGS or op.name in _INTEGERS:
            recent = [*recent[1:], argument]
    return sum(sizes.values())


def foreign(names: Iterable[str]) -> list[str]:
    """Those that neither torch's own safe loader reads nor the fixed list allows."""
    return [name for name in names if not name.startswith("torch.") and name not in _TORCH_READS | ALLOWED.keys()]


def beside_weights(names: Iterable[str]) -> tuple[str, ...]:
    """Those that stand-ins take the place of."""
    return tuple(name for name in names if name in ALLOWED)


def _instructions(pickled: BinaryIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    try:
        yield from pickletools.genops(pickled)
    except _SCAN_ERRORS as error:
        raise ValueError(f"not a whole pickle: {type(error).__name__}") from error


def _python3_name(name: str) -> str:
    """Protocol 2, torch's own, spells builtins as Python 2 did."""
    if not name.startswith("__builtin__."):
        return name
    short = name.removeprefix("__builtin__.")
    return "builtins." + {"long": "int", "unicode": "str"}.get(short, short)
