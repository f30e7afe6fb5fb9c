"""A pickle read without doing what it says: the one reader of all pickle streams in this product.

Python's own unpickler imports the names in a stream and calls them. This machine follows the same instructions, but a
name is only ever a `Global` and a call only ever an `Inert`, unless the name is on the short fixed list of `rebuild`,
whose functions make tensors and plain data out of plain data. Promises: nothing foreign is imported or called; memory
stays proportional to the stream; any sequence of bytes ends in a value or in `BrokenPickle`.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from orchestrator.checkpoint.formats.pickles.inert import Global, Inert

Rebuilder = Callable[..., Any]
"""Makes a real value from the arguments in the stream, or answers NotImplemented to leave them inert."""

_READ_ERRORS = (
    ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError, MemoryError, OverflowError,
    UnicodeError, struct.error,
)  # fmt: skip
_MOST_PROTOCOL = 5
_DEEPEST_KEY = 4
_VALUE_OPS = frozenset(
    (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
        "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE",
        "BINUNICODE", "BINUNICODE8",
    )
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NEW = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GETS, _PUTS = {"GET", "BINGET", "LONG_BINGET"}, {"PUT", "BINPUT", "LONG_BINPUT"}
_MARK = object()
_GETATTR = Global("builtins", "getattr")


class BrokenPickle(ValueError):
    """The stream is no whole pickle."""


class Stream(Protocol):
    """Bytes with a position: `io.BytesIO` or a mapped file."""

    def read(self, n: int = ..., /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


def read_pickle(
    stream: Stream,
    rebuild: Mapping[str, Rebuilder],
    names: set[str],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Read one pickle; the stream stands behind it afterwards.

    Args:
        stream: where the pickle begins.
        rebuild: `module.name` -> what makes the real value.
        names: every name that is not in `rebuild` is added to it; not `getattr` where it only names members of enums.
        persistent: what an outside reference (a tensor's storage) stands for.

    Raises:
        BrokenPickle: it is cut short, damaged, or no pickle.
    """
    machine = _Machine(rebuild, names, persistent)
    try:
        for op, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
            if op.name == "STOP":
                machine.forget_members()
                return machine.pop()
            machine.step(op.name, argument)
    except BrokenPickle:
        raise
    except _READ_ERRORS as error:
        raise BrokenPickle(f"{type(error).__name__}: {str(error)[:200]}") from error
    raise BrokenPickle("it ends in the middle")


class _Machine:
    """The stack, the memo, and one method per kind of instruction."""

    def __init__(
        self, rebuild: Mapping[str, Rebuilder], names: set[str], persistent: Callable[[Any], Any] | None
    ) -> None:
        self.rebuild = rebuild
        self.names = names
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.members = 0
        """Calls of `getattr` that name a member, as the first releases of Python 3.11 wrote those of enums."""
        self.follows = False
        """Whether something is called that had to be computed first, or `getattr` for anything else."""

    def step(self, op: str, argument: Any) -> None:
        if op in _VALUE_OPS:
            self.stack.append(argument)
        elif op in _GETS:
            self.stack.append(self.memo[argument])
        elif op in _PUTS:
            self.memo[argument] = self.top()
        elif op in _TUPLES:
            count = _TUPLES[op]
            self.stack.append(tuple([self.pop() for _ in range(count)][::-1]))
        elif op in _CONSTANTS:
            self.stack.append(_CONSTANTS[op])
        elif op in _NEW:
            self.stack.append(_NEW[op]())
        else:
            _STEPS[op](self, argument)

    def top(self) -> Any:
        value = self.stack[-1]
        if value is _MARK:
            raise BrokenPickle("a value is missing")
        return value

    def pop(self) -> Any:
        value = self.top()
        del self.stack[-1]
        return value

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark."""
        start = len(self.stack) - 1
        while self.stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise BrokenPickle("a mark is missing")
        values = self.stack[start + 1 :]
        del self.stack[start:]
        return values

    def call(self, function: Any, args: Any, kwargs: Any = None) -> None:
        """A call in the stream: a real value for the few known names, an inert object for all others."""
        if not isinstance(args, tuple) or not isinstance(kwargs or {}, dict):
            raise BrokenPickle("the arguments of a call are no tuple")
        if isinstance(function, Global) and not kwargs:
            maker = self.rebuild.get(str(function))
            made = _made(maker, args) if maker is not None else NotImplemented
            if made is not NotImplemented:
                self.stack.append(made)
                return
        origin = function if isinstance(function, Global) else Global("", repr(function)[:200])
        if origin == _GETATTR and _is_member(args):
            self.members += 1
            self.stack.append(Inert(args[0], args[1:]))
            return
        self.follows |= origin == _GETATTR or origin is not function
        self.stack.append(Inert(origin, args, kwargs))

    def forget_members(self) -> None:
        """`getattr` is dangerous where what it gives is called; members of enums are not."""
        if self.members and not self.follows:
            self.names.discard(str(_GETATTR))

    def named(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise BrokenPickle("a name is no string")
        found = Global(_PYTHON2.get(module, module), name)
        if module == "__builtin__":
            found = Global("builtins", {"long": "int", "unicode": "str", "xrange": "range"}.get(name, name))
        if str(found) not in self.rebuild:
            self.names.add(str(found))
        return found

    def skip(self, _: Any) -> None:
        """Instructions about the stream itself."""

    def protocol(self, version: int) -> None:
        if version > _MOST_PROTOCOL:
            raise BrokenPickle(f"protocol {version} does not exist")

    def mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def drop(self, _: Any) -> None:
        del self.stack[-1]  # of a mark, too

    def drop_mark(self, _: Any) -> None:
        self.pop_mark()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.top())

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.top()

    def marked_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_mark()))

    def marked_list(self, _: Any) -> None:
        self.stack.append(self.pop_mark())

    def marked_dict(self, _: Any) -> None:
        values = self.pop_mark()
        made: dict[Any, Any] = {}
        _set_items(made, values)
        self.stack.append(made)

    def marked_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(_key(value) for value in self.pop_mark()))

    def append(self, _: Any) -> None:
        value = self.pop()
        _extend(self.top(), [value])

    def appends(self, _: Any) -> None:
        values = self.pop_mark()
        _extend(self.top(), values)

    def add_items(self, _: Any) -> None:
        values = self.pop_mark()
        target = self.top()
        if isinstance(target, set):
            target.update(_key(value) for value in values)
        else:
            _extend(target, values)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        _set_items(self.top(), [key, value])

    def set_items(self, _: Any) -> None:
        values = self.pop_mark()
        _set_items(self.top(), values)

    def global_name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self.named(module, name))

    def stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(self.named(module, name))

    def extension(self, code: int) -> None:
        self.stack.append(self.named("copyreg", f"extension_{code}"))

    def reduce(self, _: Any) -> None:
        args, function = self.pop(), self.pop()
        self.call(function, args)

    def new_object(self, _: Any) -> None:
        args, cls = self.pop(), self.pop()
        self.call(cls, args)

    def new_object_with_keywords(self, _: Any) -> None:
        kwargs, args, cls = self.pop(), self.pop(), self.pop()
        self.call(cls, args, kwargs)

    def instance(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.call(self.named(module, name), tuple(self.pop_mark()))

    def marked_object(self, _: Any) -> None:
        cls, *args = self.pop_mark()
        self.call(cls, tuple(args))

    def build(self, _: Any) -> None:
        """The state of an object. Real values need none: a state dict's `_metadata` is all that comes here."""
        state = self.pop()
        target = self.top()
        if isinstance(target, Inert):
            target.state = state

    def persistent_text(self, argument: str) -> None:
        self.refer(argument)

    def persistent_value(self, _: Any) -> None:
        self.refer(self.pop())

    def refer(self, reference: Any) -> None:
        if self.persistent is None:
            raise BrokenPickle("it refers to something outside of it")
        self.stack.append(self.persistent(reference))

    def outside_buffer(self, _: Any) -> None:
        raise BrokenPickle("it refers to buffers outside of it")


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    "FRAME": _Machine.skip,
    "MARK": _Machine.mark,
    "POP": _Machine.drop,
    "POP_MARK": _Machine.drop_mark,
    "DUP": _Machine.duplicate,
    "MEMOIZE": _Machine.memoize,
    "TUPLE": _Machine.marked_tuple,
    "LIST": _Machine.marked_list,
    "DICT": _Machine.marked_dict,
    "FROZENSET": _Machine.marked_frozenset,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.add_items,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": _Machine.stack_global,
    "EXT1": _Machine.extension,
    "EXT2": _Machine.extension,
    "EXT4": _Machine.extension,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "NEWOBJ_EX": _Machine.new_object_with_keywords,
    "INST": _Machine.instance,
    "OBJ": _Machine.marked_object,
    "BUILD": _Machine.build,
    "PERSID": _Machine.persistent_text,
    "BINPERSID": _Machine.persistent_value,
    "NEXT_BUFFER": _Machine.outside_buffer,
    "READONLY_BUFFER": _Machine.outside_buffer,
}

# modules that Python 3 renamed; protocol 2, torch's own, spells them as Python 2 did
_PYTHON2 = {"copy_reg": "copyreg", "cPickle": "pickle", "_abcoll": "collections.abc", "__builtin__": "builtins"}


def _made(maker: Rebuilder, args: tuple[Any, ...]) -> Any:
    """What a known name makes; arguments that it cannot take leave it inert."""
    try:
        return maker(*args)
    except BrokenPickle:
        raise
    except (ValueError, TypeError, OverflowError, struct.error):
        return NotImplemented


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif isinstance(target, Inert):
        target.items.extend(values)
    else:
        raise BrokenPickle(f"something is appended to a {type(target).__name__}")


def _set_items(target: Any, values: list[Any]) -> None:
    into = target.entries if isinstance(target, Inert) else target
    if not isinstance(into, dict) or len(values) % 2:
        raise BrokenPickle(f"keys are set in a {type(target).__name__}")
    for key, value in zip(values[::2], values[1::2], strict=True):
        into[_key(key)] = value


def _key(value: Any, depth: int = 0) -> Any:
    """Only what hashes quickly and without anybody's code may be a key: deep tuples would overflow the C stack."""
    if isinstance(value, tuple) and depth < _DEEPEST_KEY:
        for item in value:
            _key(item, depth + 1)
    elif value is not None and not isinstance(value, (str, int, float, bytes, Global, Inert, Tensor, frozenset)):
        raise BrokenPickle(f"a {type(value).__name__} is used as a key")
    return value


def _is_member(args: tuple[Any, ...]) -> bool:
    """Whether the arguments of `getattr` are a class of the file and a plain name in it."""
    if len(args) != 2 or not isinstance(args[0], Global) or not isinstance(args[1], str):
        return False
    return args[1].isidentifier() and not args[1].startswith("_")
