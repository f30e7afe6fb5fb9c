"""Plain data out of a pickle: the builtin containers, and readable values in place of harmless objects.

`PLAIN` lists the names that are followed while a stream is read. `plain` turns what came out (settings, schedules,
dates) into JSON data for a report or a state: whatever it cannot be said in JSON becomes a short description.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Any

from torch import Tensor

from orchestrator.checkpoint.formats.pickles.inert import Global, Inert
from orchestrator.checkpoint.formats.pickles.numpy_values import NumpyArray

_DEEPEST = 12
_LONGEST = 1000
_LONGEST_TEXT = 2000
_MOST_VALUES = 20_000
_NUMBERS_IN_DATETIME = 10


def _dict(*args: Any) -> Any:
    """A dict of pairs; the factory of a defaultdict is never called."""
    pairs = next((arg for arg in args if isinstance(arg, (list, dict))), [])
    if isinstance(pairs, dict):
        return dict(pairs)
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        return NotImplemented
    return dict(pairs)


def _items(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    def make(*args: Any) -> Any:
        if not args:
            return kind(())
        if len(args) != 1 or not isinstance(args[0], (list, tuple)):
            return NotImplemented
        return kind(args[0])

    return make


def _set(*args: Any) -> Any:
    values = args[0] if args else []
    simple = isinstance(values, (list, tuple)) and all(isinstance(value, (str, int, float)) for value in values)
    return set(values) if simple else NotImplemented


def _encode(text: Any, encoding: Any = "latin1") -> Any:
    """How protocol 2 writes bytes."""
    known = isinstance(text, str) and encoding in ("latin1", "latin-1", "utf-8", "ascii")
    return text.encode(encoding) if known else NotImplemented


def _bytes(*args: Any) -> Any:
    if not args:
        return b""
    if isinstance(args[0], (bytes, bytearray)):
        return bytes(args[0])
    return _encode(*args)  # of an int it would be that many bytes: not made


def _number(kind: type) -> Callable[..., Any]:
    def make(value: Any = 0, *_: Any) -> Any:
        return kind(value) if isinstance(value, (int, float)) and math.isfinite(value) else NotImplemented

    return make


def _complex(real: Any = 0.0, imaginary: Any = 0.0) -> Any:
    both = isinstance(real, (int, float)) and isinstance(imaginary, (int, float))
    return complex(real, imaginary) if both else NotImplemented


def _path(*parts: Any) -> Any:
    text = all(isinstance(part, str) for part in parts)
    return "/".join(parts).replace("//", "/") or "." if text else NotImplemented


def _device(kind: Any = "", index: Any = None) -> Any:
    return kind if index is None else f"{kind}:{index}"


def _datetime(raw: Any = None, *_: Any) -> Any:
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(data, bytes) or len(data) != _NUMBERS_IN_DATETIME:
        return NotImplemented
    year, month, day, hour, minute, second = struct.unpack(">HBBBBB", data[:7])
    return datetime(year, month & 127, day, hour, minute, second, int.from_bytes(data[7:], "big")).isoformat()


def _date(raw: Any = None, *_: Any) -> Any:
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(data, bytes) or len(data) != 4:
        return NotImplemented
    return date(*struct.unpack(">HBB", data)).isoformat()


def _time(raw: Any = None, *_: Any) -> Any:
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(data, bytes) or len(data) != 6:
        return NotImplemented
    hour, minute, second = data[:3]
    return time(hour & 127, minute, second, int.from_bytes(data[3:], "big")).isoformat()


def _timedelta(days: Any = 0, seconds: Any = 0, microseconds: Any = 0) -> Any:
    if not all(isinstance(value, int) for value in (days, seconds, microseconds)):
        return NotImplemented
    return str(timedelta(days, seconds, microseconds))


_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
PLAIN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _dict,
    "collections.Counter": _dict,
    "builtins.dict": _dict,
    "builtins.list": _items(list),
    "builtins.tuple": _items(tuple),
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.int": _number(int),
    "builtins.float": _number(float),
    "builtins.bool": _number(bool),
    "builtins.complex": _complex,
    "_codecs.encode": _encode,
    "torch.Size": _items(tuple),
    "torch.device": _device,
    "datetime.datetime": _datetime,
    "datetime.date": _date,
    "datetime.time": _time,
    "datetime.timedelta": _timedelta,
    **{f"{module}.{name}": _path for module in ("pathlib", "pathlib._local") for name in _PATHS},
}
"""Names that are followed because they only hold data."""


def plain(value: Any) -> Any:
    """JSON data that says what `value` says; short descriptions where JSON cannot, and where it is deep or long."""
    return _Speaker().say(value, 0)


class _Speaker:
    """Says values within a budget: a small stream can describe a structure of any size."""

    def __init__(self) -> None:
        self.left = _MOST_VALUES

    def say(self, value: Any, depth: int) -> Any:
        self.left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return value[:_LONGEST_TEXT]
        if isinstance(value, int):
            return value if abs(value) < 1 << 63 else "a huge number"
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if depth > _DEEPEST or self.left < 0:
            return "..."
        if isinstance(value, Mapping):
            return {self.key(key): self.say(item, depth + 1) for key, item in _first(value.items())}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.say(item, depth + 1) for item in _first(value)]
        if isinstance(value, (Tensor, NumpyArray)):
            return self.tensor(value)
        if isinstance(value, Inert):
            return self.made_thing(value, depth)
        return str(value)[:_LONGEST_TEXT] if isinstance(value, Global) else f"a {type(value).__name__}"

    def key(self, key: Any) -> str:
        return str(self.say(key, _DEEPEST))[:_LONGEST_TEXT]

    def tensor(self, value: Tensor | NumpyArray) -> Any:
        tensor = value.tensor() if isinstance(value, NumpyArray) else value
        if tensor is None:
            return "an array"
        return self.say(tensor.item(), _DEEPEST) if tensor.numel() == 1 else f"a tensor of shape {list(tensor.shape)}"

    def made_thing(self, value: Inert, depth: int) -> Any:
        """Objects by their attributes; OmegaConf's containers and nodes by what they hold."""
        attributes = value.attributes()
        for key in ("_content", "_val"):
            if key in attributes:
                return self.say(attributes[key], depth + 1)
        for held in (attributes, value.entries, value.items):
            if held:
                return self.say(held, depth + 1)
        if len(value.args) == 1 and isinstance(value.args[0], (str, int, float)):
            return self.say(value.args[0], depth)  # an enum member, a decimal, a uuid
        return repr(value)[:_LONGEST_TEXT]


def _first(values: Iterable[Any]) -> list[Any]:
    return list(islice(values, _LONGEST))
